"""Kills of random daemons, one after the other, whether or not the last one is back."""
import os
import random
import signal
import time
import unittest

from load import Load
from support import DAEMONS, SETTINGS, Held, complete, main_pid, wait_serving, wait_until

PAUSE_SECONDS_MAX = 1.5


class StormTests(unittest.TestCase):
    def test_1_storm(self):
        """after the storm the deployment answers, and nothing is left of the dead"""
        wait_serving()
        before = Held()
        expected = complete("In the beginning", 64, ignore_eos=True)["text"]
        choice = random.Random(SETTINGS["seed"])
        killed = {unit: 0 for unit in DAEMONS}
        with Load() as load:
            while sum(killed.values()) < SETTINGS["storm"]:
                unit = choice.choice(DAEMONS)
                pid = main_pid(unit)
                if pid:
                    os.kill(pid, signal.SIGKILL)
                    killed[unit] += 1
                time.sleep(choice.uniform(0, PAUSE_SECONDS_MAX))
            began = time.monotonic()
            wait_serving()
            print(f"killed {killed}, serving {time.monotonic() - began:.1f} s after the last",
                  flush=True)
        print(load.summary(), load.kinds_of_failure(), flush=True)
        self.assertEqual(complete("In the beginning", 64, ignore_eos=True)["text"], expected)
        # Streams die with their gateway; those that were answered are right.
        self.assertEqual(load.wrong[:1], [])
        self.assertEqual(load.refused_connections, 0)
        wait_until(lambda: Held() == before, 20, f"{Held()} is {before}")

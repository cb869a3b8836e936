"""Rolling restarts of every daemon under a steady load lose nothing."""
import time
import unittest

from load import Load
from support import DAEMONS, SETTINGS, Held, systemctl, wait_serving


class RollingTests(unittest.TestCase):
    def test_1_rolling_restarts(self):
        """restarts of each daemon under streams: no failure, no refusal, no wrong token"""
        wait_serving()
        before = Held()
        durations = {unit: [] for unit in DAEMONS}
        with Load() as load:
            for _ in range(SETTINGS["rolling"]):
                for unit in DAEMONS:
                    began = time.monotonic()
                    systemctl("restart", unit)
                    wait_serving()
                    durations[unit].append(time.monotonic() - began)
        for unit, seconds in durations.items():
            print(f"{unit}: {len(seconds)} restarts, longest {max(seconds):.2f} s", flush=True)
        print(load.summary(), flush=True)
        self.assertEqual(load.failed[:5], [])
        self.assertEqual(load.wrong[:1], [])
        self.assertEqual(load.refused_connections, 0)
        self.assertGreater(load.completed, 0)
        self.assertEqual(Held(), before)

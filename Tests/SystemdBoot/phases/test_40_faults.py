"""Daemons that are killed or hang come back, and nothing that waits for them is lost."""
import concurrent.futures
import os
import signal
import time
import unittest

from load import stream
from support import (COORDINATOR, DAEMONS, GATEWAY, WORKERS, Held, complete, configure_unit,
                     journal, main_pid, restarts, running_sequences, show, systemctl, wait_serving,
                     wait_until)

WATCHDOG_SECONDS = 10
PREFILL_WATCHDOG_SECONDS = 4
# SIGABRT, the end of the process and systemd's own work, on a busy machine.
WATCHDOG_SLACK_SECONDS = 5
TIMEOUT_SECONDS = 1
LONG_TOKENS = 1500
LONGEST_PROMPT = 2000


class FaultTests(unittest.TestCase):
    def test_1_kills(self):
        """kill -9 of each daemon in turn: it is restarted, the others go on, nothing is left"""
        wait_serving()
        before = Held()
        expected = complete("In the beginning", 64, ignore_eos=True)["text"]
        for unit in DAEMONS:
            pids = {other: main_pid(other) for other in DAEMONS}
            count = restarts(unit)
            began = time.monotonic()
            os.kill(pids[unit], signal.SIGKILL)
            wait_until(lambda u=unit, c=count: restarts(u) == c + 1, 30, f"{unit} is restarted")
            wait_serving()
            took = time.monotonic() - began
            self.assertEqual(complete("In the beginning", 64, ignore_eos=True)["text"], expected)
            print(f"{unit} killed, serving after {took:.1f} s", flush=True)
            for other in DAEMONS:
                if other != unit:
                    self.assertEqual(main_pid(other), pids[other], f"{other} went on")
        wait_until(lambda: Held() == before, 10, f"{Held()} is {before}")

    def test_2_no_false_watchdog(self):
        """a watchdog of 4 s lets the longest prompts through"""
        for unit in WORKERS:
            configure_unit(unit, f"[Service]\nWatchdogSec={PREFILL_WATCHDOG_SECONDS}\n")
        systemctl("restart", *WORKERS)
        wait_serving()
        counts = [restarts(unit) for unit in WORKERS]
        prompts = [[(index * 31 + place * 7) % 4000 + 1 for place in range(LONGEST_PROMPT)]
                   for index in range(24)]
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
            choices = list(pool.map(lambda prompt: complete(prompt, 2), prompts))
        took = time.monotonic() - began
        self.assertEqual(len(choices), len(prompts))
        print(f"{len(prompts)} prompts of {LONGEST_PROMPT} tokens in {took:.1f} s", flush=True)
        self.assertEqual([restarts(unit) for unit in WORKERS], counts)
        for unit in WORKERS:
            configure_unit(unit, None)

    def test_3_watchdog(self):
        """a worker that is stopped under a stream is killed within its limit; the stream goes on"""
        configure_unit(WORKERS[1], f"[Service]\nWatchdogSec={WATCHDOG_SECONDS}\n")
        systemctl("restart", *WORKERS)
        wait_serving()
        expected = complete("The sea was", LONG_TOKENS, ignore_eos=True)["text"]
        old, count = main_pid(WORKERS[1]), restarts(WORKERS[1])
        healthy = main_pid(WORKERS[0])
        with concurrent.futures.ThreadPoolExecutor() as pool:
            running = pool.submit(stream, "The sea was", LONG_TOKENS)
            began = time.monotonic()
            os.kill(old, signal.SIGSTOP)
            wait_until(lambda: main_pid(WORKERS[1]) != old,
                       WATCHDOG_SECONDS + WATCHDOG_SLACK_SECONDS, "the stopped worker is killed")
            killed = time.monotonic() - began
            wait_until(lambda: restarts(WORKERS[1]) == count + 1, 30, "it is restarted")
            self.assertEqual(running.result(timeout=120), (expected, "length"))
            whole = time.monotonic() - began
        wait_serving()
        print(f"killed after {killed:.1f} s of {WATCHDOG_SECONDS} s, stream whole after "
              f"{whole:.1f} s", flush=True)
        self.assertIn("Watchdog timeout", journal(WORKERS[1]))
        self.assertEqual(main_pid(WORKERS[0]), healthy, "the healthy worker went on")
        configure_unit(WORKERS[1], None)
        systemctl("restart", WORKERS[1])
        wait_serving()

    def test_4_more_time(self):
        """start and drain may take longer than the unit's timeouts: the daemons ask for more"""
        short = f"[Service]\nTimeoutStartSec={TIMEOUT_SECONDS}\nTimeoutStopSec={TIMEOUT_SECONDS}\n"
        for unit in (WORKERS[0], GATEWAY):
            configure_unit(unit, short)
        systemctl("stop", COORDINATOR)
        systemctl("restart", "--no-block", WORKERS[0])
        pid = wait_until(lambda: show(WORKERS[0], "ActiveState") == "activating"
                         and main_pid(WORKERS[0]), 30, "the worker starts")
        time.sleep(3 * TIMEOUT_SECONDS)
        self.assertEqual(show(WORKERS[0], "ActiveState"), "activating")
        self.assertEqual(main_pid(WORKERS[0]), pid)
        systemctl("start", COORDINATOR)
        wait_serving()
        expected = complete("The sea was", LONG_TOKENS, ignore_eos=True)["text"]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            running = [pool.submit(stream, "The sea was", LONG_TOKENS) for _ in range(4)]
            wait_until(lambda: running_sequences() == 4, 10, "the streams run")
            began = time.monotonic()
            systemctl("restart", GATEWAY)
            for answer in running:
                self.assertEqual(answer.result(timeout=60), (expected, "length"))
            took = time.monotonic() - began
            print(f"drained for {took:.1f} s of {TIMEOUT_SECONDS} s", flush=True)
        self.assertGreater(took, TIMEOUT_SECONDS)
        self.assertEqual(show(GATEWAY, "Result"), "success")
        for unit in (WORKERS[0], GATEWAY):
            configure_unit(unit, None)
        wait_serving()

    def test_5_wrong_options(self):
        """a daemon whose options are wrong ends with 64 and is not tried again"""
        configure_unit(GATEWAY, "[Service]\nExecStart=\n"
                                "ExecStart=/usr/bin/phalanx-gateway --no-such-option\n")
        systemctl("restart", GATEWAY, check=False)
        wait_until(lambda: show(GATEWAY, "ActiveState") == "failed", 10, "the gateway has failed")
        self.assertEqual(show(GATEWAY, "ExecMainStatus"), "64")
        self.assertIn('unknown option "no-such-option"', journal(GATEWAY))
        configure_unit(GATEWAY, None)
        systemctl("restart", GATEWAY)
        wait_serving()
        self.assertEqual(show(COORDINATOR, "ActiveState"), "active")

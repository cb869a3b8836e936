"""Workers are added and taken away under streams."""
import unittest

from load import Load
from support import (COORDINATOR, WORKERS, Held, phalanx_status, run, show, systemctl, wait_serving,
                     wait_until)

MORE = ["phalanx-engine-worker@2.service", "phalanx-engine-worker@3.service"]


class ScaleTests(unittest.TestCase):
    def test_1_two_to_four_and_back(self):
        """2 -> 4 -> 2 under streams: no failure, no refusal, no wrong token"""
        wait_serving()
        before = Held()
        with Load() as load:
            systemctl("start", *MORE)
            self.wait_for_members(4)
            self.assertIn("with 4 workers", show(COORDINATOR, "StatusText"))
            # Both ways of doing it.
            systemctl("stop", MORE[1])
            self.wait_for_members(3)
            print(run("phalanxctl", "scale", "2").strip(), flush=True)
            self.wait_for_members(2)
            self.assertEqual(show(MORE[0], "ActiveState"), "inactive")
            print(run("phalanxctl", "scale", "2").strip(), flush=True)
        print(load.summary(), flush=True)
        self.assertEqual(load.failed[:5], [])
        self.assertEqual(load.wrong[:1], [])
        self.assertEqual(load.refused_connections, 0)
        self.assertGreater(load.completed, 0)
        self.assertEqual(Held(), before)

    def test_2_one_is_enough(self):
        """stopping a configured worker leaves the others serving"""
        with Load() as load:
            systemctl("stop", WORKERS[1])
            self.wait_for_members(1)
            systemctl("start", WORKERS[1])
            self.wait_for_members(2)
        self.assertEqual(load.failed[:5], [])
        self.assertEqual(load.wrong[:1], [])
        wait_serving()

    def wait_for_members(self, count):
        def is_so():
            report = phalanx_status()
            members = [worker for worker in report.get("workers", []) if worker.get("member")]
            return report.get("serving") and len(members) == count
        wait_until(is_so, 30, f"a view of {count} workers serves")

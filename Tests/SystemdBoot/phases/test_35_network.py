"""Workers that exchange over UCX, as between hosts, under the units' confinement."""
import unittest

from support import (CONFIGURATION, DAEMONS, TARGET, WORKERS, anonymous_memories, complete, main_pid,
                     restarts, systemctl, wait_serving)


class NetworkTests(unittest.TestCase):
    def test_1_ucx(self):
        """two workers over UCX give the tokens that they give over shared memory"""
        wait_serving()
        expected = complete("The sea was", 64, ignore_eos=True)["text"]
        with open(CONFIGURATION, encoding="utf-8") as file:
            installed = file.read()
        try:
            self.configure(installed + "collectives: ucx\n")
            self.assertEqual(complete("The sea was", 64, ignore_eos=True)["text"], expected)
            counts = anonymous_memories()
            for unit in WORKERS:
                self.assertNotIn(main_pid(unit), counts, "no shared memory")
            self.assertEqual([restarts(unit) for unit in DAEMONS], [0] * len(DAEMONS))
        finally:
            self.configure(installed)

    @staticmethod
    def configure(text):
        with open(CONFIGURATION, "w", encoding="utf-8") as file:
            file.write(text)
        systemctl("restart", TARGET)
        wait_serving()

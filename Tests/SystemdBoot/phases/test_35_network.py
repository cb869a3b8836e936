"""What the units leave to a worker of host and network: UCX, and its own accelerator."""
import os
import unittest

from support import (CONFIGURATION, DAEMONS, TARGET, WORKERS, anonymous_memories, complete,
                     main_pid, restarts, systemctl, wait_serving)


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

    def test_2_devices(self):
        """of accelerators a worker sees its own alone"""
        # Files stand for the devices, which a container may not make.
        devices = [f"/dev/davinci{index}" for index in range(len(WORKERS))]
        for path in devices:
            open(path, "x", encoding="utf-8").close()
        try:
            systemctl("restart", *WORKERS)
            wait_serving()
            for path, unit in zip(devices, WORKERS):
                names = os.listdir(f"/proc/{main_pid(unit)}/root/dev")
                self.assertEqual([f"/dev/{name}" for name in names if "davinci" in name], [path])
        finally:
            for path in devices:
                os.remove(path)
            systemctl("restart", *WORKERS)
            wait_serving()

    @staticmethod
    def configure(text):
        with open(CONFIGURATION, "w", encoding="utf-8") as file:
            file.write(text)
        systemctl("restart", TARGET)
        wait_serving()

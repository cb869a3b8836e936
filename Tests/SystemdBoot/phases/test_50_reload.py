"""`systemctl reload`, for daemons that know SIGHUP."""
import unittest

from support import DAEMONS, handles_hangup, main_pid, show, systemctl, wait_serving


class ReloadTests(unittest.TestCase):
    def test_1_reload(self):
        """systemctl reload keeps the process and its readiness"""
        wait_serving()
        deaf = [unit for unit in DAEMONS if not handles_hangup(main_pid(unit))]
        if deaf:
            self.skipTest("SIGHUP is not handled by " + ", ".join(deaf))
        for unit in DAEMONS:
            pid = main_pid(unit)
            systemctl("reload", unit)
            self.assertEqual(main_pid(unit), pid, unit)
            self.assertEqual(show(unit, "ActiveState"), "active", unit)
        wait_serving()

"""The package on a bare host: what it brings, and that its units are sound and confined."""
import glob
import grp
import os
import pwd
import re
import stat
import unittest

from support import (CONFIGURATION, DAEMONS, GATEWAY, KEYS, SOCKET, TARGET, WORKERS,
                     phalanx_processes, run, show, systemctl)

UNITS = "/usr/lib/systemd/system"
EXPOSURE_MAX = 15  # Tenths.


class InstallTests(unittest.TestCase):
    def test_1_apt_installs_the_package(self):
        """apt installs the package, and starts nothing"""
        run("apt-get", "install", "-y", "/out/phalanx.deb", seconds=300)
        self.assertEqual(phalanx_processes(), {})
        self.assertEqual(show(TARGET, "ActiveState"), "inactive")
        self.assertFalse(os.path.exists(KEYS), "keys are made at the first start")

    def test_2_what_is_enabled(self):
        """the bundled cell's units are enabled, the target at boot is not"""
        for unit in [*DAEMONS, SOCKET]:
            self.assertEqual(systemctl("is-enabled", unit).strip(), "enabled", unit)
        self.assertEqual(systemctl("is-enabled", TARGET, check=False).strip(), "disabled")

    def test_3_user_and_files(self):
        """there is a user without a shell, and only it and root read the configuration"""
        user = pwd.getpwnam("phalanx")
        self.assertTrue(user.pw_shell.endswith("nologin"), user.pw_shell)
        status = os.stat(CONFIGURATION)
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o640)
        self.assertEqual(grp.getgrgid(status.st_gid).gr_name, "phalanx")
        self.assertEqual(os.stat("/var/cache/phalanx").st_uid, user.pw_uid)

    def test_4_units_verify(self):
        """systemd-analyze verify finds nothing"""
        units = [*DAEMONS, SOCKET, TARGET, "phalanx-keys.service", "phalanx.slice"]
        self.assertEqual(run("systemd-analyze", "verify", "--man=no", *units), "")

    def test_5_exposure(self):
        """systemd-analyze security: every service has at most 1.5"""
        figures = []
        for unit in sorted(glob.glob(f"{UNITS}/phalanx-*.service")):
            report = run("systemd-analyze", "security", "--offline=true", "--no-pager",
                         f"--threshold={EXPOSURE_MAX}", unit)
            figure = re.search(r"exposure level for (\S+): ([0-9.]+)", report)
            figures.append(f"{figure.group(1)} {figure.group(2)}")
        print("exposure", ", ".join(figures), flush=True)
        self.assertEqual(len(figures), 4)

    def test_6_the_plan_agrees(self):
        """phalanxctl plan accepts the installed configuration"""
        run("phalanxctl", "plan", "--config", CONFIGURATION)

    def test_7_instances(self):
        """an instance's number is its device"""
        for index, unit in enumerate(WORKERS):
            self.assertIn(f"--device-index {index}", show(unit, "ExecStart"))
        self.assertIn(GATEWAY, show(WORKERS[0], "Before"))

"""Purging the package leaves nothing but its user."""
import glob
import os
import unittest

from support import TARGET, WORKERS, phalanx_processes, run, show, systemctl


class PurgeTests(unittest.TestCase):
    def test_1_another_installation(self):
        """installing again while it runs restarts nothing and enables nothing"""
        systemctl("start", TARGET)
        systemctl("disable", WORKERS[1])
        pids = phalanx_processes()
        run("apt-get", "install", "-y", "--reinstall", "/out/phalanx.deb", seconds=300)
        self.assertEqual(phalanx_processes(), pids)
        self.assertEqual(systemctl("is-enabled", WORKERS[1], check=False).strip(), "disabled")
        self.assertEqual(show(TARGET, "ActiveState"), "active")

    def test_2_purge_while_it_runs(self):
        """purge stops what runs and takes all files away"""
        self.assertEqual(len(phalanx_processes()["phalanx-engine-worker"]), 2)
        run("apt-get", "purge", "-y", "phalanx", seconds=300)
        self.assertEqual(phalanx_processes(), {})
        places = ("/etc", "/usr/bin", "/usr/lib", "/usr/share", "/var/cache", "/var/lib", "/run",
                  "/dev/shm")
        found = run("find", *places, "-xdev", "(", "-name", "phalanx*", ")", "-not", "-path",
                    "/etc/systemd/system/phalanx-test.*").split()
        # The user's home and the record of systemd's units are no files of the package.
        self.assertEqual([path for path in found if "phalanx-test" not in path], [])
        left = systemctl("list-unit-files", "--no-legend", "phalanx-[!t]*", check=False)
        self.assertEqual(left.strip(), "")
        self.assertEqual(glob.glob("/etc/systemd/system/phalanx.target.wants"), [])
        self.assertFalse(os.path.exists("/etc/phalanx"))

"""`systemctl reload`: the process stays, and takes over its file and its keys."""
import glob
import os
import pwd
import stat
import unittest

from load import Load
from support import (CONFIGURATION, COORDINATOR, DAEMONS, GATEWAY, KEYS, WORKERS, complete, journal,
                     main_pid, phalanx_processes, run, show, systemctl, wait_serving, wait_until)

HANDED_OVER = "/run/phalanx/keys"
RELOAD_SECONDS = 30


def reloads(unit):
    """How often it has said what it took."""
    return sum(line.startswith("reloaded") for line in journal(unit).splitlines())


def reload_all():
    """Reloads every daemon and waits until each has said what it took."""
    before = {unit: reloads(unit) for unit in DAEMONS}
    for unit in DAEMONS:
        systemctl("reload", unit)
    wait_until(lambda: all(reloads(unit) > before[unit] for unit in DAEMONS), RELOAD_SECONDS,
               "every daemon has reloaded")


def wait_logged(unit, text):
    wait_until(lambda: text in journal(unit), RELOAD_SECONDS, f"{unit} logs: {text}")


def folder_of(unit):
    return os.path.join(HANDED_OVER, unit.removesuffix(".service"))


class ReloadTests(unittest.TestCase):
    def test_1_reload(self):
        """systemctl reload keeps the process and its readiness"""
        wait_serving()
        pids = phalanx_processes()
        reload_all()
        self.assertEqual(phalanx_processes(), pids)
        for unit in DAEMONS:
            self.assertEqual(show(unit, "ActiveState"), "active", unit)
        wait_serving()

    def test_2_what_a_reload_hands_over(self):
        """the copies are the user's to read and root's to write, and each daemon sees its own"""
        user = pwd.getpwnam("phalanx")
        for unit, role in zip(DAEMONS, ["coordinator", "worker", "worker", "gateway"]):
            names = sorted(os.listdir(folder_of(unit)))
            self.assertEqual(names, sorted(os.listdir(f"/run/credentials/{unit}")))
            self.assertEqual([name for name in names if name.endswith(".secret")],
                             [f"{role}.secret"])
            for name in names:
                status = os.lstat(os.path.join(folder_of(unit), name))
                self.assertEqual(
                    (status.st_mode, status.st_uid), (stat.S_IFREG | 0o400, user.pw_uid), name)
            folder = os.stat(folder_of(unit))
            self.assertEqual((folder.st_uid, folder.st_mode & 0o022), (0, 0), unit)
            root = f"/proc/{main_pid(unit)}/root/run/phalanx"
            self.assertEqual(os.listdir(f"{root}/keys"), [], "what others were handed is hidden")
            self.assertEqual(sorted(os.listdir(f"{root}/reloaded")), names)
            self.assertTrue(os.statvfs(f"{root}/reloaded").f_flag & os.ST_RDONLY, unit)

    def test_3_a_key_is_rotated(self):
        """a gateway's key is changed by reloads alone, under streams, and none of them fails"""
        pids = phalanx_processes()
        with Load() as load:
            wait_until(lambda: load.completed > 0, 60, "a stream is whole")
            run("phalanxctl", "keys", KEYS, "--rotate", "gateway")
            reload_all()
            before = load.completed
            wait_until(lambda: load.completed > before + 10, 60, "streams go on")
        print(load.summary(), flush=True)
        self.assertEqual((load.failed[:5], load.wrong[:1], load.refused_connections), ([], [], 0))
        self.assertIn("gateway.secret is another one", journal(GATEWAY))
        for unit in [COORDINATOR, *WORKERS]:
            self.assertIn("gateway.public has 1 new keys and 0 fewer", journal(unit), unit)
        self.assertEqual(phalanx_processes(), pids)

    def test_4_an_old_key_is_deleted(self):
        """without its old public key the gateway comes again, with the new one"""
        pids = phalanx_processes()
        path = os.path.join(KEYS, "gateway.public")
        with open(path, encoding="utf-8") as file:
            current = file.readline()
        with open(path, "w", encoding="utf-8") as file:
            file.write(current)
        reload_all()
        for unit in [COORDINATOR, *WORKERS]:
            wait_logged(unit, "gateway.public has 0 new keys and 1 fewer")
        wait_serving()
        self.assertEqual(complete("In the beginning", 4)["finish_reason"], "length")
        self.assertEqual(phalanx_processes(), pids)

    def test_5_keys_that_are_missing(self):
        """a reload without a key of the set fails, and the daemon goes on with those that it has"""
        path = os.path.join(KEYS, "worker.public")
        os.rename(path, path + ".away")
        try:
            answer = systemctl("reload", GATEWAY, check=False)
        finally:
            os.rename(path + ".away", path)
        self.assertIn("failed", answer)
        self.assertIn("worker.public", journal(GATEWAY))
        self.assertEqual(show(GATEWAY, "ActiveState"), "active")
        self.assertEqual(complete("In the beginning", 4)["finish_reason"], "length")

    def test_6_a_restart_reads_credentials(self):
        """what a reload handed over is gone after a restart"""
        systemctl("restart", GATEWAY)
        wait_serving()
        self.assertEqual(glob.glob(f"{folder_of(GATEWAY)}/*"), [])
        self.assertEqual(complete("In the beginning", 4)["finish_reason"], "length")

    def test_7_the_file(self):
        """limits change, and what does not is named"""
        with open(CONFIGURATION, encoding="utf-8") as file:
            text = file.read()
        try:
            with open(CONFIGURATION, "a", encoding="utf-8") as file:
                file.write("shutdown-timeout: 29\nmax-logprobs: 15\nblock-size: 32\n")
            reload_all()
            for unit in [*WORKERS, GATEWAY]:
                self.assertIn("reloaded --shutdown-timeout: 30 becomes 29", journal(unit), unit)
            for unit in DAEMONS:
                self.assertIn("reloaded --max-logprobs: 20 becomes 15", journal(unit), unit)
                self.assertIn("--block-size: 16 becomes 32 needs a restart", journal(unit), unit)
            wait_logged(GATEWAY, "the coordinator has another --max-logprobs")
        finally:
            with open(CONFIGURATION, "w", encoding="utf-8") as file:
                file.write(text)
        reload_all()
        wait_serving()

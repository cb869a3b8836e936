"""`systemctl start phalanx.target` on a fresh host brings up a cell that answers."""
import json
import os
import stat
import subprocess
import time
import unittest

from support import (ADDRESS, CONFIGURATION, COORDINATOR, DAEMONS, GATEWAY, KEYS, TARGET, WORKERS,
                     complete, journal, main_pid, restarts, run, show, start_milliseconds,
                     milliseconds, systemctl)

TOKENS = 32
# A token counts where the reference is that sure of it; int8 kernels differ in the last bits.
MARGIN_MIN = 0.1


class StartTests(unittest.TestCase):
    def test_1_the_target_starts(self):
        """the target starts, and then the deployment answers at once"""
        began = time.monotonic()
        systemctl("start", TARGET)
        started = time.monotonic() - began
        first = run(
            "curl", "--silent", "--show-error", "--fail", "--max-time", "30",
            f"http://{ADDRESS[0]}:{ADDRESS[1]}/v1/completions",
            "--header", "Content-Type: application/json",
            "--data", '{"model": "demo", "prompt": "In the beginning", "max_tokens": 8, '
            '"ignore_eos": true}')
        self.assertEqual(json.loads(first)["usage"]["completion_tokens"], 8)
        print(f"start to answer {started * 1000:.0f} ms", flush=True)

    def test_2_the_order(self):
        """coordinator, workers, gateway: each waited until the one before was ready"""
        coordinator_ready = milliseconds(COORDINATOR, "ActiveEnter")
        workers_ready = [milliseconds(unit, "ActiveEnter") for unit in WORKERS]
        for unit in WORKERS:
            self.assertGreaterEqual(milliseconds(unit, "ExecMainStart"), coordinator_ready)
        self.assertGreaterEqual(milliseconds(GATEWAY, "ExecMainStart"), max(workers_ready))

    def test_3_states(self):
        """every unit is active, says so, and has not been restarted"""
        for unit in DAEMONS:
            self.assertEqual(show(unit, "ActiveState", "SubState"), ["active", "running"], unit)
            self.assertEqual(restarts(unit), 0, unit)
            self.assertEqual(show(unit, "Slice"), "phalanx.slice")
            self.assertIn("view 1", show(unit, "StatusText"), unit)
            user = run("ps", "-o", "user=", "-p", str(main_pid(unit))).strip()
            self.assertEqual(user, "phalanx", unit)

    def test_4_golden_tokens(self):
        """the tokens are the reference's"""
        with open("/out/prompts-demo.json", encoding="utf-8") as file:
            prompts = {entry["n"]: entry["ids"] for entry in json.load(file)}
        with open("/out/greedy.json", encoding="utf-8") as file:
            goldens = json.load(file)
        compared = 0
        for golden in goldens:
            margins = golden["margin"]
            sure = next((i for i, m in enumerate(margins) if m < MARGIN_MIN), len(margins))
            choice = complete(prompts[golden["n"]], TOKENS, return_token_ids=True, ignore_eos=True)
            self.assertEqual(choice["token_ids"][:sure], golden["tokens"][:sure], golden["n"])
            compared += sure
        print(f"{compared} tokens of {len(goldens)} prompts", flush=True)
        self.assertGreater(compared, len(goldens))

    def test_5_keys(self):
        """the keys were made, root's alone, and each role has only its own secret"""
        secrets = [name for name in os.listdir(KEYS) if name.endswith(".secret")]
        self.assertEqual(len(secrets), 4)
        for name in secrets:
            status = os.stat(os.path.join(KEYS, name))
            self.assertEqual((status.st_uid, stat.S_IMODE(status.st_mode)), (0, 0o600), name)
        for unit, role in zip([COORDINATOR, WORKERS[0], GATEWAY],
                              ["coordinator", "worker", "gateway"]):
            given = os.listdir(f"/run/credentials/{unit}")
            self.assertEqual([name for name in given if name.endswith(".secret")],
                             [f"{role}.secret"])
        plain = subprocess.run(
            ["phalanxctl", "status", "--data-parallel-address", "127.0.0.1", "--timeout", "1"],
            capture_output=True, check=False)
        self.assertNotEqual(plain.returncode, 0, "the coordinator answered without keys")

    def test_6_operator(self):
        """phalanxctl status says that the deployment serves"""
        status = run("phalanxctl", "status")
        self.assertTrue(status.startswith("serving"), status)

    def test_7_shared_memory(self):
        """the workers exchange over shared memory, and map the same packed weights"""
        for unit in WORKERS:
            pid = main_pid(unit)
            with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
                maps = file.read()
            inboxes = {line.split()[4] for line in maps.splitlines() if "/memfd:" in line}
            self.assertGreaterEqual(len(inboxes), 2, "its own inbox and its peer's")
            self.assertIn("/var/cache/phalanx/", maps, unit)
        self.assertIn("packed weights are", journal(WORKERS[0]))

    def test_8_times(self):
        """how long each daemon takes (printed)"""
        coordinator, worker, gateway = (
            start_milliseconds(unit) for unit in (COORDINATOR, WORKERS[0], GATEWAY))
        print(f"coordinator listens after {coordinator:.0f} ms, worker in its first view after "
              f"{worker:.0f} ms, gateway ready after {gateway:.0f} ms", flush=True)
        self.assertGreater(min(coordinator, worker, gateway), 0)

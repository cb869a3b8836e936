"""The gateway's socket is systemd's: restarts refuse nobody, and a stop lets streams end."""
import concurrent.futures
import threading
import time
import unittest

from load import TOKENS, Load, stream
from support import (COORDINATOR, GATEWAY, SOCKET, complete, exchange, get, main_pid,
                     running_sequences, show, start_milliseconds, systemctl, wait_ready,
                     wait_serving, wait_until)

LONG_TOKENS = 1500


class GatewayTests(unittest.TestCase):
    def test_1_the_socket_starts_the_gateway(self):
        """the first connection starts a gateway that does not run, and is answered"""
        systemctl("stop", GATEWAY)
        self.assertEqual(main_pid(GATEWAY), 0)
        self.assertEqual(show(SOCKET, "ActiveState"), "active")
        self.assertEqual(get("/health")[0], 200)
        wait_ready()
        self.assertNotEqual(main_pid(GATEWAY), 0)

    def test_2_a_restart_refuses_nobody(self):
        """requests that come during restarts wait and are answered"""
        statuses = []
        stopping = threading.Event()

        def ask():
            while not stopping.is_set():
                began = time.monotonic()
                status, text = get("/v1/models")
                statuses.append((status, time.monotonic() - began, text))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            systemctl("restart", GATEWAY)
        stopping.set()
        for thread in threads:
            thread.join()
        bad = [entry for entry in statuses if entry[0] != 200]
        print(f"{len(statuses)} requests during 3 restarts, {len(bad)} not answered with 200, "
              f"longest {max(entry[1] for entry in statuses) * 1000:.0f} ms", flush=True)
        self.assertEqual(bad, [])

    def test_3_a_stream_outlives_the_stop(self):
        """a restart under a stream: the old gateway ends it, the new one serves the next"""
        expected = complete("The sea was", LONG_TOKENS, ignore_eos=True)["text"]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            old = main_pid(GATEWAY)
            running = pool.submit(stream, "The sea was", LONG_TOKENS)
            wait_until(lambda: running_sequences() > 0, 10, "the stream runs")
            systemctl("restart", "--no-block", GATEWAY)
            wait_until(lambda: show(GATEWAY, "ActiveState") == "deactivating", 10, "it drains")
            waiting = pool.submit(exchange, "POST", "/v1/completions",
                                  {"model": "demo", "prompt": "Call me", "max_tokens": 4})
            self.assertEqual(running.result(timeout=60), (expected, "length"))
            self.assertEqual(waiting.result(timeout=60)[0], 200)
        self.assertNotEqual(main_pid(GATEWAY), old)
        wait_until(lambda: show(GATEWAY, "ActiveState") == "active", 30, "the gateway is back")

    def test_4_times(self):
        """how long a coordinator takes to listen, and a gateway with warm workers to be ready"""
        for unit in (COORDINATOR, GATEWAY):
            figures = []
            for _ in range(3):
                systemctl("restart", unit)
                figures.append(start_milliseconds(unit))
                wait_serving()
            print(unit, "after", ", ".join(f"{figure:.0f} ms" for figure in figures), flush=True)
            self.assertGreater(min(figures), 0)

    def test_5_load(self):
        """streams are whole and right while nothing is disturbed"""
        with Load() as load:
            wait_until(lambda: load.completed >= 12, 60, "12 streams")
        print(load.summary(), f"({TOKENS} tokens)", flush=True)
        self.assertEqual((load.failed, load.wrong, load.refused_connections), ([], [], 0))

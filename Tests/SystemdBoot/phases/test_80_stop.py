"""`systemctl stop phalanx.target` takes the node down in order, and start brings it up again."""
import unittest

from support import (COORDINATOR, DAEMONS, GATEWAY, SOCKET, TARGET, WORKERS, get, listening_ports,
                     milliseconds, phalanx_processes, show, stop_node, systemctl, wait_serving)


class StopTests(unittest.TestCase):
    def test_1_restart_of_the_target(self):
        """restarting the target restarts the node"""
        wait_serving()
        systemctl("restart", TARGET)
        wait_serving()

    def test_2_a_node_without_coordinator_and_gateway(self):
        """which daemons a node has is a matter of enable and disable"""
        stop_node()
        systemctl("disable", GATEWAY, SOCKET, COORDINATOR)
        systemctl("start", "--no-block", TARGET)
        for unit in WORKERS:
            self.assertIn(show(unit, "ActiveState"), ("activating", "active"), unit)
        for unit in (COORDINATOR, GATEWAY, SOCKET):
            self.assertEqual(show(unit, "ActiveState"), "inactive", unit)
        stop_node()
        systemctl("enable", GATEWAY, COORDINATOR)
        self.assertEqual(systemctl("is-enabled", SOCKET).strip(), "enabled")
        systemctl("start", TARGET)
        wait_serving()

    def test_3_the_order(self):
        """gateway, workers, coordinator: each waited until the one before was gone"""
        stop_node()
        for unit in [*DAEMONS, SOCKET]:
            state = show(unit, "ActiveState", "Result")
            self.assertEqual(state, ["inactive", "success"], unit)
        gateway = milliseconds(GATEWAY, "InactiveEnter")
        for unit in WORKERS:
            self.assertGreaterEqual(milliseconds(unit, "ActiveExit"), gateway)
            self.assertLessEqual(
                milliseconds(unit, "InactiveEnter"), milliseconds(COORDINATOR, "ActiveExit"))

    def test_4_nothing_is_left(self):
        """no process, no port, nobody answers"""
        self.assertEqual(phalanx_processes(), {})
        self.assertEqual(listening_ports(), {})
        self.assertEqual(get("/health")[0], 0)

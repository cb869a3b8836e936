"""The units for Podman's generator (quadlet), by its documentation: podman-systemd.unit(5).

Debian 12's Podman has no generator, so what it would refuse is looked for here."""

import os
import re
import unittest

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "packaging", "container")
# Of Podman 4.4, the first with a generator; drop-ins came with 5.0.
CONTAINER_KEYS = {
    "AddCapability", "AddDevice", "Annotation", "ContainerName", "DropCapability", "Environment",
    "EnvironmentFile", "EnvironmentHost", "Exec", "ExposeHostPort", "Group", "HealthCmd", "IP",
    "Image", "Label", "LogDriver", "Mount", "Network", "NoNewPrivileges", "Notify", "PodmanArgs",
    "PublishPort", "ReadOnly", "RunInit", "SeccompProfile", "Secret", "Timezone", "User",
    "UserNS", "VolatileTmp", "Volume",
}
SERVICE_KEYS = {"Restart", "RestartSec", "TimeoutStartSec", "TimeoutStopSec"}
KEYS = {
    "Unit": {"Description", "Documentation"},
    "Container": CONTAINER_KEYS,
    "Service": SERVICE_KEYS,
    "Install": {"WantedBy"},
}
BOOLEANS = {"Notify", "ReadOnly", "NoNewPrivileges"}
NODES = [f"/dev/davinci{index}" for index in range(8)] + [
    "/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc",
]


def entries(name):
    """Section, key and value of each line."""
    section, found = None, []
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        for line in file:
            line = line.rstrip("\n")
            if not line or line.startswith("#"):
                continue
            if match := re.fullmatch(r"\[(\w+)\]", line):
                section = match.group(1)
                continue
            key, mark, value = line.partition("=")
            if not mark or section is None:
                raise AssertionError(f"{name}: {line!r} is no entry")
            found.append((section, key, value))
    return found


class ContainerTests(unittest.TestCase):
    units = sorted(name for name in os.listdir(FOLDER) if name.endswith(".container"))

    def test_there_is_a_unit_for_each_daemon(self):
        self.assertEqual(
            self.units,
            [
                "phalanx-coordinator.container", "phalanx-engine-worker@.container",
                "phalanx-gateway.container",
            ],
        )

    def test_every_key_is_one_that_the_generator_or_systemd_knows(self):
        for name in self.units + ["ascend.conf"]:
            for section, key, value in entries(name):
                self.assertIn(section, KEYS, name)
                self.assertIn(key, KEYS[section], name)
                self.assertTrue(value, f"{name}: {key}")
                if key in BOOLEANS:
                    self.assertEqual(value, "true", f"{name}: {key}")

    def test_each_runs_its_daemon_of_one_image_and_reports_readiness_itself(self):
        images = set()
        for name in self.units:
            own = {key: value for section, key, value in entries(name) if section == "Container"}
            images.add(own["Image"])
            self.assertEqual(own["Exec"].split()[0], re.split(r"[@.]", name)[0])
            self.assertEqual(own["Notify"], "true")
            self.assertEqual(own["User"], "phalanx")
            self.assertEqual(own["DropCapability"], "all")
        self.assertEqual(len(images), 1)

    def test_the_driver_and_every_device_of_an_atlas_node_is_passed(self):
        found = entries("ascend.conf")
        self.assertEqual([value for _, key, value in found if key == "AddDevice"], NODES)
        volumes = [value for _, key, value in found if key == "Volume"]
        for path in ("/usr/local/Ascend/driver", "/usr/local/dcmi", "/etc/ascend_install.info"):
            self.assertIn(f"{path}:{path}:ro", volumes)

    def test_the_runtime_stage_has_the_libraries_and_no_headers(self):
        with open(os.path.join(FOLDER, "Containerfile"), encoding="utf-8") as file:
            runtime = file.read().split("FROM ")[2]
        self.assertNotIn("-dev", runtime)
        for library in ("libzmq5", "libucx0", "libprotobuf-c1", "libssl3", "libyaml-0-2"):
            self.assertIn(library, runtime)
        self.assertIn("\nUSER phalanx\n", runtime)


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
"""Boots a real systemd with the built package and drives it through systemctl, journalctl and HTTP.

The machine is a systemd-nspawn container over an overlay of this one's root on tmpfs, with a
network of its own: nothing here is changed, and nothing of it stays. The phases of `phases/` run
inside, in the order of their names.

  make test-systemd ARGS="--rolling 100"    restarts of each daemon under load (default 5)
  make test-systemd ARGS="--storm 1000"     kills of random daemons (default 20)
  make test-systemd ARGS="--only storm"     install, start, the phases with that name, stop, purge
"""
import argparse
import glob
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BASE_SECONDS = 420
SECONDS_PER_RESTART = 12
SECONDS_PER_KILL = 4
JOURNAL_LINES_SHOWN = 80


def unified_cgroup():
    """Where a control group of version 2 can be made; None without one."""
    for folder in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        if os.path.exists(os.path.join(folder, "cgroup.procs")) and os.path.exists(
                os.path.join(folder, "cgroup.controllers")):
            return folder
    return None


def reason_to_skip():
    if os.geteuid() != 0:
        return "a container with its own systemd takes root"
    if shutil.which("systemd-nspawn") is None:
        return "systemd-nspawn is missing: scripts/install-packages.sh systemd-container"
    if unified_cgroup() is None:
        return "there is no cgroup2 file system, which the container's systemd takes"
    return None


class Machine:
    """One boot: mounts, container, log. Everything that was made is taken back."""

    def __init__(self, package, settings):
        self.folder = tempfile.mkdtemp(prefix="phalanx-boot-")
        self.layer = os.path.join(self.folder, "layer")
        self.root = os.path.join(self.folder, "root")
        self.out = os.path.join(self.folder, "out")
        self.group = os.path.join(unified_cgroup(), f"phalanx-boot-{os.getpid()}")
        for path in (self.layer, self.root, self.out):
            os.mkdir(path)
        shutil.copy(package, os.path.join(self.out, "phalanx.deb"))
        shutil.copytree(HERE, os.path.join(self.out, "suite"))
        goldens = os.path.join(ROOT, "Tests", "Fixtures", "goldens")
        shutil.copy(os.path.join(goldens, "prompts-demo.json"), self.out)
        shutil.copy(os.path.join(goldens, "demo-w8a8", "greedy.json"), self.out)
        with open(os.path.join(self.out, "settings.json"), "w", encoding="utf-8") as file:
            json.dump(settings, file)
        open(os.path.join(self.out, "test.log"), "w", encoding="utf-8").close()

    def mount(self):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", self.layer], check=True)
        upper, work = os.path.join(self.layer, "upper"), os.path.join(self.layer, "work")
        os.mkdir(upper)
        os.mkdir(work)
        subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o",
             f"lowerdir=/,upperdir={upper},workdir={work}", self.root], check=True)
        units = os.path.join(self.root, "etc", "systemd", "system")
        for name in ("phalanx-test.target", "phalanx-test.service"):
            shutil.copy(os.path.join(HERE, name), units)
        # A host that has Phalanx itself must not leak into the test.
        for pattern in ("phalanx.target*", "phalanx-gateway*", "phalanx-engine*", "phalanx-coord*"):
            for path in glob.glob(os.path.join(units, pattern)):
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)

    def boot(self, limit_seconds):
        """The number with which the container ended, or None when it took too long."""
        os.mkdir(self.group)
        name = os.path.basename(self.group)
        command = (
            f"echo $$ > {self.group}/cgroup.procs && exec systemd-nspawn --quiet "
            f"--directory={self.root} --register=no --keep-unit --private-network "
            f"--machine={name} --hostname=phalanx-boot --bind={self.out}:/out --boot "
            "-- --unit=phalanx-test.target")
        environment = dict(os.environ, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1")
        with open(os.path.join(self.out, "console.log"), "w", encoding="utf-8") as console:
            child = subprocess.Popen(
                ["bash", "-c", command], env=environment, stdin=subprocess.DEVNULL,
                stdout=console, stderr=console)
        ended = threading.Event()
        follower = threading.Thread(target=self.follow, args=(ended,))
        follower.start()
        try:
            return child.wait(timeout=limit_seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
            ended.set()
            follower.join()

    def follow(self, ended):
        """Shows the log of the phases while it grows."""
        with open(os.path.join(self.out, "test.log"), encoding="utf-8", errors="replace") as log:
            while True:
                last = ended.is_set()
                text = log.read()
                if text:
                    print(text, end="", flush=True)
                elif last:
                    return
                else:
                    ended.wait(0.2)

    def tail(self, name):
        path = os.path.join(self.out, name)
        if not os.path.exists(path):
            return ""
        with open(path, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-JOURNAL_LINES_SHOWN:])

    def close(self):
        for path in (self.root, self.layer):
            subprocess.run(["umount", "-R", path], check=False, capture_output=True)
        for folder, _, _ in os.walk(self.group, topdown=False):
            try:
                os.rmdir(folder)
            except OSError as error:
                print(f"{folder} stays: {error.strerror}", file=sys.stderr)
        shutil.rmtree(self.folder, ignore_errors=True)


def package_path():
    found = sorted(glob.glob(os.path.join(ROOT, ".build", "deb", "phalanx_*_amd64.deb")))
    if not found:
        sys.exit("there is no package in .build/deb: run make deb first")
    return found[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--rolling", type=int, default=5, metavar="N", help="restarts of each daemon")
    parser.add_argument("--storm", type=int, default=20, metavar="N", help="kills")
    parser.add_argument("--only", metavar="NAME", help="of the middle phases those with this name")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--keep", metavar="DIR", help="a new folder for logs and journal")
    arguments = parser.parse_args()
    reason = reason_to_skip()
    if reason:
        print(f"systemd boot: SKIPPED, {reason}")
        return 0
    settings = {name: getattr(arguments, name) for name in ("rolling", "storm", "only", "seed")}
    limit = (BASE_SECONDS + 4 * SECONDS_PER_RESTART * arguments.rolling
             + SECONDS_PER_KILL * arguments.storm)
    started = time.monotonic()
    machine = Machine(package_path(), settings)
    code = None
    try:
        machine.mount()
        code = machine.boot(limit)
    finally:
        if code != 0:
            print(machine.tail("journal.txt") or machine.tail("console.log"))
        if arguments.keep:
            shutil.copytree(machine.out, arguments.keep, ignore=shutil.ignore_patterns("*.deb"))
        machine.close()
    seconds = time.monotonic() - started
    if code is None:
        print(f"systemd boot: FAILED, not over after {limit} s; the journal is above")
        return 1
    print(f"systemd boot: {'passed' if code == 0 else f'FAILED with {code}'} in {seconds:.0f} s"
          f" (seed {arguments.seed})")
    return 0 if code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Installs the built package on a new Debian 12 as a user would, and takes it away again.

The system is made by mmdebstrap with what every Debian has and systemd, so that a library that the
package does not ask for is missing. It boots in a container with a network of its own; this machine
drives it from outside and asks with its own curl. It takes root, and Debian's packages.

  make test-fresh-debian
"""
import json
import os
import subprocess
import sys
import tempfile
import time

from run import package_path, reason_to_skip, unified_cgroup

SUITE = "bookworm"
BOOT_SECONDS = 60
STEP_SECONDS = 600
LEFT_OVERS = ("/etc", "/usr", "/var/cache", "/var/lib/phalanx", "/run", "/dev/shm")


def run(*command, seconds=STEP_SECONDS):
    """Output of a command; a RuntimeError that shows it where it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, timeout=seconds, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


class Container:
    """The new system while it runs."""

    def __init__(self, root):
        self.group = os.path.join(unified_cgroup(), f"phalanx-fresh-{os.getpid()}")
        os.mkdir(self.group)
        self.manager = subprocess.Popen(
            ["bash", "-c",
             f"echo $$ > {self.group}/cgroup.procs && exec systemd-nspawn --quiet "
             f"--directory={root} --register=no --keep-unit --private-network "
             f"--machine=phalanx-fresh-{os.getpid()} --boot"],
            env=dict(os.environ, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1"), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.leader = None
        deadline = time.monotonic() + BOOT_SECONDS
        while not self.has_booted():
            if time.monotonic() > deadline or self.manager.poll() is not None:
                raise RuntimeError("the new system has not booted")
            time.sleep(0.1)

    def has_booted(self):
        if self.leader is None:
            path = f"/proc/{self.manager.pid}/task/{self.manager.pid}/children"
            with open(path, encoding="ascii") as file:
                children = file.read().split()
            self.leader = children[0] if children else None
            return False
        try:
            state = subprocess.run(
                ["nsenter", "-t", self.leader, "-a", "systemctl", "is-system-running"],
                capture_output=True, text=True, timeout=BOOT_SECONDS, check=False).stdout.strip()
        except subprocess.TimeoutExpired:
            return False
        return state in ("running", "degraded")

    def inside(self, *command):
        return run("nsenter", "-t", self.leader, "-a", *command)

    def ask(self, *arguments):
        """This machine's curl in the container's network."""
        return run("nsenter", "-t", self.leader, "-n", "curl", "--silent", "--show-error",
                   "--fail", "--max-time", "60", *arguments)

    def close(self):
        self.manager.terminate()
        try:
            self.manager.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.manager.kill()
            self.manager.wait()
        for folder, _, _ in os.walk(self.group, topdown=False):
            os.rmdir(folder)


def try_out(container):
    began = time.monotonic()
    container.inside("systemctl", "start", "phalanx.target")
    container.ask("http://127.0.0.1:8000/health")
    print(f"systemctl start phalanx.target: serving after {time.monotonic() - began:.1f} s")
    answer = json.loads(container.ask(
        "http://127.0.0.1:8000/v1/completions", "--header", "Content-Type: application/json",
        "--data", json.dumps({"model": "demo", "prompt": "In the beginning", "max_tokens": 16,
                              "temperature": 0})))
    print(f"a completion: {answer['choices'][0]['text']!r}")
    if answer["usage"]["completion_tokens"] != 16:
        raise RuntimeError(f"not 16 tokens: {answer}")
    print(container.inside("phalanxctl", "status").rstrip())


def main():
    reason = reason_to_skip()
    if reason:
        print(f"new Debian: SKIPPED, {reason}")
        return 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="phalanx-fresh-") as folder:
        root = os.path.join(folder, "root")
        run("mmdebstrap", "--variant=minbase", "--include=systemd-sysv", SUITE, root)
        packages = run("chroot", root, "dpkg-query", "-f", ".", "-W").count(".")
        print(f"a new Debian with {packages} packages after {time.monotonic() - began:.0f} s")
        package = os.path.basename(package_path())
        run("cp", package_path(), os.path.join(root, package))
        apt = ("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--pipe",
               f"--directory={root}", "--setenv=DEBIAN_FRONTEND=noninteractive", "apt-get")
        run(*apt, "update")
        run(*apt, "install", "-y", f"/{package}")
        print(f"apt install ./{package}: done")
        container = Container(root)
        try:
            try_out(container)
            container.inside("apt-get", "purge", "-y", "phalanx")
            container.inside("rm", f"/{package}")
            places = [place for place in LEFT_OVERS if os.path.exists(root + place)]
            left = container.inside("find", *places, "-xdev", "-name", "phalanx*").split()
            if left:
                raise RuntimeError(f"purge leaves {left}")
            print("apt purge: nothing is left")
        finally:
            container.close()
    print(f"new Debian: passed in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        print("new Debian: FAILED")
        sys.exit(1)

#!/usr/bin/env python3
"""Builds Phalanx, starts a cell on this machine with `phalanxctl serve`, and shows a real answer.

Settings come from the environment:

  MODEL   checkpoint folder (default: models/demo/w8a8)
  DP, TP  data- and tensor-parallel size (default: 2 and 1)
  PORT    of HTTP (default: 8004; 0 picks a free one)
  DEVICE  cpu
  BIN     folder with the programs; default: a release build that this script makes
          (MODEL and BIN are relative to the working folder or else to this repository)
  ARGS    more options, as of `vllm serve` (e.g. "--max-num-seqs 8")
  VERBOSE 1 shows every log line of the daemons
"""
import ctypes
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PR_SET_PDEATHSIG = 1
PROGRAMS = ("phalanx-coordinator", "phalanx-engine-worker", "phalanx-gateway", "phalanxctl")


def setting(name, default):
    return os.environ.get(name) or default


def folder_with(name, path, files):
    """Where `path` is: in the working folder or else in the repository. Says what it lacks."""
    path = os.path.expanduser(path)
    for base in (os.getcwd(), ROOT):
        place = os.path.join(base, path)
        if all(os.path.isfile(os.path.join(place, file)) for file in files):
            # As given where that is enough for the daemons, which run in the repository.
            return path if base == ROOT else place
    reason = f"there is no {' and no '.join(files)} in this folder"
    if os.path.isfile(os.path.join(os.getcwd(), path)):
        reason = "is a file; give its folder"
    elif not any(os.path.isdir(os.path.join(base, path)) for base in (os.getcwd(), ROOT)):
        reason = "there is no such folder"
    sys.exit(f"{name}={path}: {reason}")


def build():
    """Builds the programs; shows SwiftPM's counter, and its output only when it fails."""
    started = time.monotonic()
    live = sys.stdout.isatty()
    command = ["swift", "build", "-c", "release", "--static-swift-stdlib"]
    for product in PROGRAMS:
        lines = []
        child = subprocess.Popen(
            command + ["--product", product], cwd=ROOT, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if not live:
            print(f"building   {product}", flush=True)
        for text in child.stdout:
            lines.append(text.rstrip())
            if live:
                print("\r\033[K" + f"building   {product} {text.strip()}"[:110], end="", flush=True)
        if child.wait() != 0:
            sys.exit("\n".join(["", *lines[-60:], "the build failed; its last lines are above"]))
    end = "\r\033[K" if live else ""
    print(f"{end}built      in {time.monotonic() - started:.0f} s", flush=True)
    shown = subprocess.run(
        command + ["--show-bin-path"], cwd=ROOT, text=True, capture_output=True, check=True)
    return shown.stdout.strip()


def sample(address):
    """Shows a request as a user would type it, with the answer that it really got."""
    with urllib.request.urlopen(f"{address}/v1/models", timeout=10) as answer:
        model = json.load(answer)["data"][0]["id"]
    body = {"model": model, "prompt": "In the beginning", "max_tokens": 16, "temperature": 0}
    text = json.dumps(body)
    print(f"\n  curl {address}/v1/completions \\\n"
          f"    -H 'Content-Type: application/json' -d '{text}'\n", flush=True)
    request = urllib.request.Request(
        f"{address}/v1/completions", text.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        print("  " + answer.read().decode() + "\n", flush=True)


def sample_when_ready(notify, life):
    """Waits until phalanxctl says that it serves (sd_notify), or until `life` ends with it."""
    address = None
    notify.settimeout(0.5)
    os.set_blocking(life, False)
    while True:
        try:
            lines = notify.recv(65536).decode(errors="replace").split("\n")
        except socket.timeout:
            try:
                if os.read(life, 1) == b"":
                    return
            except BlockingIOError:
                pass
            continue
        for line in lines:
            if line.startswith("X_PHALANX_ENDPOINT="):
                address = line.split("=", 1)[1]
            if line == "READY=1" and address:
                return sample(address)


def start_sampler():
    """A process that is nobody's child, so that phalanxctl can take this one's place."""
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind("")  # Linux picks an abstract name.
    life, held = os.pipe()
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            os.close(held)
            try:
                sample_when_ready(notify, life)
            except (OSError, ValueError, KeyError) as error:
                print(f"the sample request failed: {error}", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    os.set_inheritable(held, True)
    os.environ["NOTIFY_SOCKET"] = "@" + notify.getsockname()[1:].decode()


def main():
    # When make (or the shell) dies, the cell stops in order; under nohup it stays.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # A parent may have left them blocked, as libdispatch does in its threads.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    model = folder_with(
        "MODEL", setting("MODEL", os.path.join("models", "demo", "w8a8")), ["config.json"])
    if setting("DEVICE", "cpu") != "cpu":
        sys.exit(f"DEVICE={setting('DEVICE', '')}: only cpu is supported")
    values = {"DP": setting("DP", "2"), "TP": setting("TP", "1"), "PORT": setting("PORT", "8004")}
    for name, value in values.items():
        if not value.isdigit():
            sys.exit(f"{name}={value}: is not a number")
    try:
        more = shlex.split(setting("ARGS", ""))
    except ValueError as error:
        sys.exit(f"ARGS={setting('ARGS', '')}: {error}")
    given = os.environ.get("BIN")
    folder = os.path.join(ROOT, folder_with("BIN", given, PROGRAMS) if given else build())
    command = [
        os.path.join(folder, "phalanxctl"), "serve", model, "--data-parallel-size", values["DP"],
        "--tensor-parallel-size", values["TP"], "--port", values["PORT"],
        "--data-parallel-rpc-port", "0"]
    if int(values["DP"]) * int(values["TP"]) > 1:
        command.append("--enable-expert-parallel")
    if not setting("VERBOSE", ""):
        command += ["--log-level", "warning"]
    start_sampler()
    os.chdir(ROOT)
    os.execv(command[0], command + more)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Starts a whole cell on this machine, in the foreground: a coordinator, engine workers, a gateway.

It plays the service manager's part: the daemons report to it by sd_notify, so what it shows is what
`systemctl status` would show. Settings come from the environment:

  MODEL   checkpoint folder (default: models/demo/w8a8)
  DP, TP  data- and tensor-parallel size (default: 2 and 1)
  PORT    of HTTP (default: 8004; 0 picks a free one)
  DEVICE  cpu
  BIN     folder with the daemons; default: a release build that this script makes
          (MODEL and BIN are relative to the working folder or else to this repository)
  ARGS    more options for the coordinator, as on its command line (e.g. "--max-num-seqs 8")
  VERBOSE 1 shows every log line of the daemons
"""
import ctypes
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PR_SET_PDEATHSIG = 1
STOP_SECONDS = 40
LIBC = ctypes.CDLL(None, use_errno=True)


DAEMONS = ("phalanx-coordinator", "phalanx-engine-worker", "phalanx-gateway")


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


class Screen:
    """One line that changes on a terminal; plain lines elsewhere."""

    def __init__(self):
        self.live = sys.stdout.isatty()
        self.lock = threading.Lock()
        self.dirty = False
        self.last = None

    def line(self, text):
        with self.lock:
            if self.dirty:
                print("\r\033[K", end="")
                self.dirty = False
            print(text, flush=True)

    def progress(self, text):
        with self.lock:
            if self.live:
                print("\r\033[K" + text[:110], end="", flush=True)
                self.dirty = True

    def milestone(self, text):
        """For something that many reports repeat: printed once where lines cannot change."""
        if self.live:
            self.progress(text)
        elif text != self.last:
            self.last = text
            self.line(text)


screen = Screen()


def build():
    """Builds the daemons; shows SwiftPM's counter, and its output only when it fails."""
    started = time.monotonic()
    command = ["swift", "build", "-c", "release", "--static-swift-stdlib"]
    for product in DAEMONS:
        lines = []
        child = subprocess.Popen(
            command + ["--product", product], cwd=ROOT, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if not screen.live:
            screen.line(f"building   {product}")
        for text in child.stdout:
            lines.append(text.rstrip())
            screen.progress(f"building   {product} {text.strip()}")
        if child.wait() != 0:
            screen.line("\n".join(lines[-60:]))
            screen.line("the build failed; its last lines are above")
            sys.exit(1)
    screen.line(f"built      in {time.monotonic() - started:.0f} s")
    shown = subprocess.run(
        command + ["--show-bin-path"], cwd=ROOT, text=True, capture_output=True, check=True)
    return shown.stdout.strip()


class Daemon:
    """One child process with its own notification socket and log."""

    def __init__(self, name, cell, arguments):
        self.name = name
        self.cell = cell
        self.ready = threading.Event()
        self.status = "starting"
        self.tail = []
        self.shown = set()
        self.endpoint = None
        self.port = None
        path = os.path.join(cell.folder, f"{name}.notify")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(path)
        environment = dict(os.environ, NOTIFY_SOCKET=path)
        parent = os.getpid()

        def tie():
            # The child dies with this script, whatever kills it.
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        # A session of its own: Ctrl-C reaches this script alone, which stops them in order.
        self.child = subprocess.Popen(
            arguments, cwd=ROOT, env=environment, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=tie,
            start_new_session=True)
        threading.Thread(target=self.read_log, daemon=True).start()
        threading.Thread(target=self.read_status, daemon=True).start()

    def read_log(self):
        for text in self.child.stderr:
            text = text.rstrip()
            self.tail = self.tail[-20:] + [text]
            where = re.search(r"listening .*endpoint=(\S+)", text)
            if where:
                self.endpoint = where.group(1)
            where = re.search(r"listening .*port=(\d+)", text)
            if where:
                self.port = int(where.group(1))
            # That daemons leave is no warning while they are told to.
            worries = ("error",) if self.cell.stopping else ("warning", "error")
            if setting("VERBOSE", "") or text.startswith(worries):
                screen.line(f"  [{self.name}] {text}")
                self.shown.add(text)

    def read_status(self):
        while True:
            for text in self.notify.recv(65536).decode(errors="replace").split("\n"):
                if text == "READY=1":
                    self.ready.set()
                elif text.startswith("STATUS="):
                    self.status = text[7:]

    def stop(self, how=signal.SIGTERM):
        if self.child.poll() is None:
            self.child.send_signal(how)


class Cell:
    def __init__(self):
        self.daemons = []
        self.stopping = False
        self.folder = tempfile.mkdtemp(prefix="phalanx-")

    def start(self, name, binary, *arguments):
        daemon = Daemon(name, self, [binary, *arguments])
        self.daemons.append(daemon)
        return daemon

    def check(self):
        for daemon in self.daemons:
            code = daemon.child.poll()
            if code is not None and not self.stopping:
                time.sleep(0.1)  # its last lines are on their way
                how = f"ended with code {code}" if code >= 0 else f"was killed by signal {-code}"
                screen.line(f"{daemon.name} {how}; the cell stops")
                for text in daemon.tail:
                    if text not in daemon.shown:
                        screen.line(f"  {text}")
                self.stop()
                sys.exit(1)

    def wait(self, condition, show=lambda: None):
        while not condition():
            self.check()
            show()
            time.sleep(0.05)

    def stop(self):
        """Gateway first, so that requests finish while workers are there; coordinator last."""
        if self.stopping:
            return
        self.stopping = True
        for kind in ("gateway", "worker", "coordinator"):
            group = [d for d in self.daemons if d.name.startswith(kind)]
            for daemon in group:
                daemon.stop()
            deadline = time.monotonic() + STOP_SECONDS
            for daemon in group:
                try:
                    daemon.child.wait(max(deadline - time.monotonic(), 0.1))
                except subprocess.TimeoutExpired:
                    screen.line(f"{daemon.name} does not stop: killed")
                    daemon.stop(signal.SIGKILL)
                    daemon.child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self):
        for daemon in self.daemons:
            daemon.stop(signal.SIGKILL)


def bar(percent, width=30):
    full = int(width * percent / 100)
    return "[" + "#" * full + "." * (width - full) + "]"


class Loading:
    """The workers' `loading P % B of T bytes` as one bar with a rate."""

    def __init__(self):
        self.started = time.monotonic()

    def show(self, workers):
        done = total = 0
        for worker in workers:
            match = re.match(r"loading (\d+) % (\d+) of (\d+) bytes", worker.status)
            if match:
                done, total = done + int(match.group(2)), total + int(match.group(3))
        if total:
            percent = 100 * done / total
            rate = done / 1e6 / max(time.monotonic() - self.started, 1e-3)
            screen.progress(f"loading    {bar(percent)} {percent:3.0f} % {rate:,.0f} MB/s")
        else:
            screen.progress("handshake  " + "; ".join(f"{w.name}: {w.status}" for w in workers))


def sample(port):
    """Shows a request as a user would type it, with the answer that it really got."""
    prompt = "In the beginning"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=10) as answer:
        model = json.load(answer)["data"][0]["id"]
    body = {"model": model, "prompt": prompt, "max_tokens": 16, "temperature": 0}
    text = json.dumps(body)
    screen.line(f"\n  curl http://127.0.0.1:{port}/v1/completions \\\n"
                f"    -H 'Content-Type: application/json' -d '{text}'\n")
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions", text.encode(),
        {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        screen.line("  " + answer.read().decode() + "\n")


def run(cell):
    # When make (or the shell) dies, this script stops the cell in order; under nohup it stays.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    model = folder_with(
        "MODEL", setting("MODEL", os.path.join("models", "demo", "w8a8")), ["config.json"])
    if setting("DEVICE", "cpu") != "cpu":
        sys.exit(f"DEVICE={setting('DEVICE', '')}: only cpu is supported")
    size, tensor = setting("DP", "2"), setting("TP", "1")
    for name, value in (("DP", size), ("TP", tensor), ("PORT", setting("PORT", "8004"))):
        if not value.isdigit():
            sys.exit(f"{name}={value}: is not a number")
    try:
        more = shlex.split(setting("ARGS", ""))
    except ValueError as error:
        sys.exit(f"ARGS={setting('ARGS', '')}: {error}")
    folder = folder_with("BIN", os.environ["BIN"], DAEMONS) if os.environ.get("BIN") else build()
    started = time.monotonic()
    options = [model, "--data-parallel-size", size, "--tensor-parallel-size", tensor]
    count = int(size) * int(tensor)
    if count > 1:
        options.append("--enable-expert-parallel")
    coordinator = cell.start(
        "coordinator", os.path.join(folder, "phalanx-coordinator"), *options,
        "--data-parallel-rpc-port", "0", *more)
    cell.wait(lambda: coordinator.endpoint)
    port = coordinator.endpoint.rsplit(":", 1)[1]
    reach = ["--data-parallel-rpc-port", port]
    workers = []
    for index in range(count):
        workers.append(cell.start(
            f"worker-{index}", os.path.join(folder, "phalanx-engine-worker"), *reach,
            "--device-index", str(index)))
    gateway = cell.start(
        "gateway", os.path.join(folder, "phalanx-gateway"), *reach,
        "--port", setting("PORT", "8004"))
    screen.line(f"handshake  coordinator at {coordinator.endpoint}, {count} workers, 1 gateway")
    loading = Loading()
    cell.wait(gateway.ready.is_set, lambda: loading.show(workers))
    screen.line(f"loaded     {model}")
    screen.line(f"ready      in {time.monotonic() - started:.1f} s: "
                f"http://127.0.0.1:{gateway.port} (Ctrl-C stops)")
    sample(gateway.port)
    cell.wait(lambda: False)


def main():
    cell = Cell()
    presses = []

    def on_signal(number, frame):
        presses.append(number)
        if len(presses) > 1:
            cell.kill()
        else:
            raise KeyboardInterrupt

    # A parent may have left them blocked, as libdispatch does in its threads.
    signal.pthread_sigmask(
        signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, on_signal)
    try:
        run(cell)
    except KeyboardInterrupt:
        screen.line("stopping   (once more to kill)")
        cell.stop()
        screen.line("stopped")
    except BaseException:
        cell.stop()
        raise


if __name__ == "__main__":
    main()

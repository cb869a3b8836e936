"""Child processes on chosen cores, and how much of the machine others used meanwhile."""
import contextlib
import ctypes
import os
import queue
import shutil
import signal
import subprocess
import threading
import time

PR_SET_PDEATHSIG = 1
TAIL_LINES = 25
LIBC = ctypes.CDLL(None, use_errno=True)


class Skip(Exception):
    """Why something cannot be measured here; printed, and the rest goes on."""


def pinned(cores, command):
    return ["taskset", "-c", ",".join(str(core) for core in cores), *command]


def tie():
    """The child dies with this script, whatever kills it."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def tail(text, lines=TAIL_LINES):
    return "\n".join("    " + line for line in text.strip().splitlines()[-lines:])


def run(command, what, environment=None, timeout=None, folder=None):
    """Standard output of a command that has to succeed; `Skip` with its last lines otherwise."""
    if not shutil.which(command[0]):
        raise Skip(f"{what}: there is no program {command[0]}")
    child = subprocess.Popen(
        command, env=environment, cwd=folder, text=True, errors="replace", preexec_fn=tie,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True)
    try:
        output, errors = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Skip(f"{what}: not finished after {timeout:.0f} s") from None
    finally:
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
    if child.returncode != 0:
        raise Skip(f"{what}: exit code {child.returncode}\n{tail(output + errors)}")
    return output


class Held:
    """A process that stays, and is stopped (SIGSTOP) whenever something else is measured.

    It has a session of its own, so that its children are stopped and ended with it.
    """

    stays = True

    def __init__(self, command, what, environment=None, log=None):
        self.what = what
        self.log = log
        self.lines = queue.Queue()
        with open(log, "w", encoding="utf-8") as errors:
            self.child = subprocess.Popen(
                command, env=environment, text=True, errors="replace", preexec_fn=tie,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                start_new_session=True)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.child.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def failed(self, reason):
        with open(self.log, encoding="utf-8", errors="replace") as text:
            return Skip(f"{self.what}: {reason}; the end of {self.log}:\n{tail(text.read())}")

    def line(self, timeout, wanted=lambda line: True):
        """The next line of standard output that is wanted."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self.lines.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                raise self.failed(f"no answer after {timeout} s") from None
            if line is None:
                raise self.failed("has ended")
            if wanted(line):
                return line

    def write(self, line):
        try:
            self.child.stdin.write(line + "\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            raise self.failed("has ended") from None

    def send_all(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, number)

    def pause(self):
        self.send_all(signal.SIGSTOP)

    def resume(self):
        self.send_all(signal.SIGCONT)

    def end(self, how=signal.SIGTERM, patience=20):
        self.resume()
        if self.child.poll() is None:
            self.child.send_signal(how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(patience)
        self.send_all(signal.SIGKILL)
        self.child.wait()


class Others:
    """Share of the machine's CPU time that went to processes other than this script's."""

    def __init__(self):
        self.ticks = os.sysconf("SC_CLK_TCK")
        self.cores = os.cpu_count()
        self.begin()

    @staticmethod
    def stat(path):
        with open(path, encoding="utf-8", errors="replace") as text:
            return text.read()

    def family(self):
        """Ticks of this process and all below it, the ended ones included."""
        parents, used = {}, {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                fields = self.stat(f"/proc/{name}/stat").rpartition(")")[2].split()
                parents[int(name)] = int(fields[1])
                used[int(name)] = sum(int(field) for field in fields[11:15])
        own = os.getpid()
        total = 0
        for process in used:
            above = process
            while above in parents and above != own:
                above = parents[above]
            total += used[process] if above == own else 0
        return total

    def busy(self):
        fields = [int(field) for field in self.stat("/proc/stat").splitlines()[0].split()[1:]]
        # user, nice, system, interrupts and what the hypervisor took: all but idle and waiting
        return sum(fields[:3]) + sum(fields[5:8])

    def begin(self):
        self.at = time.monotonic()
        self.before = (self.busy(), self.family())

    def share(self):
        busy, family = self.busy() - self.before[0], self.family() - self.before[1]
        capacity = (time.monotonic() - self.at) * self.ticks * self.cores
        return min(max((busy - family) / max(capacity, 1), 0), 1)


def wait_for_quiet(limit, patience):
    """Waits at most `patience` seconds for two seconds in which others take less than `limit`."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        others = Others()
        time.sleep(2)
        if others.share() < limit:
            return

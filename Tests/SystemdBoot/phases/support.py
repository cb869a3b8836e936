"""What the phases share: systemctl, the journal, HTTP, and looks at processes."""
import glob
import http.client
import json
import os
import subprocess
import time

with open("/out/settings.json", encoding="utf-8") as settings_file:
    SETTINGS = json.load(settings_file)

COORDINATOR = "phalanx-coordinator.service"
WORKERS = ["phalanx-engine-worker@0.service", "phalanx-engine-worker@1.service"]
GATEWAY = "phalanx-gateway.service"
SOCKET = "phalanx-gateway.socket"
TARGET = "phalanx.target"
DAEMONS = [COORDINATOR, *WORKERS, GATEWAY]
CONFIGURATION = "/etc/phalanx/phalanx.yaml"
KEYS = "/etc/phalanx/keys"
ADDRESS = ("127.0.0.1", 8000)
REQUEST_SECONDS = 60


def run(*command, check=True, seconds=120):
    """The command's output, errors included; with `check` an AssertionError that shows it."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds,
        check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def systemctl(*arguments, check=True, seconds=120):
    return run("systemctl", *arguments, check=check, seconds=seconds)


def show(unit, *names):
    """Properties of a unit; one as its text, several as a list."""
    text = systemctl("show", unit, *[f"--property={name}" for name in names])
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return values[names[0]] if len(names) == 1 else [values[name] for name in names]


def milliseconds(unit, name):
    """A moment of a unit's life on the monotonic clock."""
    return int(show(unit, f"{name}TimestampMonotonic")) / 1000


def start_milliseconds(unit):
    """From the start of its process, which systemd then confines, to its READY."""
    return milliseconds(unit, "ActiveEnter") - milliseconds(unit, "ExecMainStart")


def main_pid(unit):
    return int(show(unit, "MainPID"))


def restarts(unit):
    return int(show(unit, "NRestarts"))


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    states = systemctl("status", "--no-pager", "--lines=5", *DAEMONS, check=False)
    raise AssertionError(f"not within {seconds} s: {what}\n{states}")


def get(path):
    """Status and body; 0 and the error where there is no answer."""
    try:
        return exchange("GET", path)
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)


def exchange(method, path, body=None):
    connection = http.client.HTTPConnection(*ADDRESS, timeout=REQUEST_SECONDS)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def complete(prompt, tokens, **fields):
    """A greedy completion as it comes: the first choice."""
    body = {"model": "demo", "prompt": prompt, "max_tokens": tokens, "temperature": 0, **fields}
    status, text = exchange("POST", "/v1/completions", body)
    if status != 200:
        raise AssertionError(f"answered {status}: {text}")
    return json.loads(text)["choices"][0]


def wait_ready(seconds=60):
    wait_until(lambda: get("/ready")[0] == 200, seconds, "GET /ready answers 200")


def running_sequences():
    """As /metrics has them, running and waiting."""
    status, text = get("/metrics")
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    return sum(float(line.split()[-1]) for line in text.splitlines()
               if status == 200 and line.startswith(names))


def phalanx_status():
    """What `phalanxctl status --json` says; nothing where no coordinator answers."""
    text = run("phalanxctl", "status", "--json", "--config", CONFIGURATION, check=False)
    return json.loads(text) if text.startswith("{") else {}


def daemons_are_active():
    return all(show(unit, "ActiveState") == "active" for unit in DAEMONS)


def wait_serving(seconds=90):
    """Every daemon is up and the deployment answers."""
    wait_until(daemons_are_active, seconds, "every daemon is active")
    wait_ready(seconds)


def stop_node():
    """Stops the target and waits for its daemons: systemctl itself waits for the target alone."""
    systemctl("stop", TARGET)
    units = [*DAEMONS, SOCKET]
    wait_until(lambda: all(show(unit, "ActiveState") == "inactive" for unit in units), 60,
               "every unit is inactive")


def configure_unit(unit, text):
    """A drop-in of the test; `text` None takes it away. Takes effect at the next start."""
    folder = f"/etc/systemd/system/{unit}.d"
    if text is None:
        for path in glob.glob(f"{folder}/*"):
            os.remove(path)
        os.rmdir(folder)
    else:
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/test.conf", "w", encoding="utf-8") as file:
            file.write(text)
    systemctl("daemon-reload")


def phalanx_processes():
    """Process numbers by the name of their program."""
    found = {}
    for path in glob.glob("/proc/[0-9]*/exe"):
        try:
            program = os.path.basename(os.readlink(path))
        except OSError:
            continue
        if program.startswith("phalanx"):
            found.setdefault(program.split(" ")[0], []).append(int(path.split("/")[2]))
    return {program: sorted(pids) for program, pids in found.items()}


def anonymous_memories():
    """How many memfd inboxes each phalanx process has open."""
    counts = {}
    for pids in phalanx_processes().values():
        for pid in pids:
            links = []
            for path in glob.glob(f"/proc/{pid}/fd/*"):
                try:
                    links.append(os.readlink(path))
                except OSError:
                    continue
            count = sum(link.startswith("/memfd:") for link in links)
            if count:
                counts[pid] = count
    return counts


def listening_ports():
    """Ports of TCP on which something listens, with the number of sockets on each."""
    lines = run("ss", "--listening", "--tcp", "--numeric", "--no-header").splitlines()
    ports = {}
    for line in lines:
        port = int(line.split()[3].rsplit(":", 1)[1])
        ports[port] = ports.get(port, 0) + 1
    return ports


class Held:
    """What a deployment holds of the host; equal before and after means that nothing leaked."""

    def __init__(self):
        processes = phalanx_processes()
        self.processes = {program: len(pids) for program, pids in processes.items()}
        # Those of workers and coordinator have numbers that change with each life.
        self.ports = sum(listening_ports().values())
        self.named_memory = sorted(os.listdir("/dev/shm"))
        self.message_queues = run("ipcs", "-m", "-q", "-s").count("0x")
        self.memories = sum(anonymous_memories().values())
        self.credentials = sorted(
            name for name in os.listdir("/run/credentials") if name.startswith("phalanx")
        ) if os.path.isdir("/run/credentials") else []

    def __eq__(self, other):
        return vars(self) == vars(other)

    def __repr__(self):
        return str(vars(self))


def journal(unit, *arguments):
    return run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}", *arguments)

"""Phalanx itself: `phalanx-bench engine` for the engine, a cell of scripts/serve.py for serving."""
import json
import os
import re
import signal
import sys

from .processes import Held, Skip, pinned, run
from .serving import Server, complete

SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(SCRIPTS)
PROGRAM = "phalanx-bench"
DAEMONS = ("phalanx-coordinator", "phalanx-engine-worker", "phalanx-gateway")
READY_SECONDS = 600
ENGINE_SECONDS = 3600
# Prompts that count in one prefill figure.
PREFILL_STEPS = 3


class PhalanxBuild:
    """Where the programs are: the folder given, or a release build of this tree."""

    def __init__(self, folder, needed, say):
        self.folder = folder
        self.needed = needed
        self.say = say

    def prepare(self):
        """Builds what is needed and in this tree; a measurement says what it lacks."""
        if self.folder:
            return
        with open(os.path.join(ROOT, "Package.swift"), encoding="utf-8") as text:
            package = text.read()
        products = [product for product in self.needed if f'"{product}"' in package]
        if not products:
            raise Skip(f"this tree has no {' and no '.join(self.needed)} to build")
        command = ["swift", "build", "-c", "release", "--static-swift-stdlib"]
        for product in products:
            self.say(f"building {product}")
            run([*command, "--product", product], f"building {product}", folder=ROOT)
        self.folder = run([*command, "--show-bin-path"], "swift build", folder=ROOT).strip()

    def program(self, name):
        path = os.path.join(self.folder, name)
        if not os.access(path, os.X_OK):
            raise Skip(f"there is no program {name} in {self.folder}")
        return path

    def bench(self, command):
        """`phalanx-bench COMMAND`, when it has it."""
        program = self.program(PROGRAM)
        usage = run([program, command, "--help"], f"{PROGRAM} {command} --help", timeout=60)
        if f"{PROGRAM} {command}" not in usage:
            raise Skip(f"{program} has no command {command}")
        return [program, command]


class PhalanxSystem:
    """Phalanx with one checkpoint."""

    is_peer = False

    def __init__(self, build, kind, model, data_parallel_size, arguments, quantization=None):
        self.build = build
        self.kind = kind
        self.name = f"Phalanx {kind}"
        self.model = model
        self.data_parallel_size = data_parallel_size
        self.quantization = ["--quantization", quantization] if quantization else []
        self.arguments = " ".join([arguments, *self.quantization])

    def prepare(self):
        self.build.prepare()

    def engine(self, cores, name, *options):
        """The one figure of that name, the median of the steps."""
        output = run(
            pinned(cores, [
                *self.build.bench("engine"), "--model", self.model, "--threads", str(len(cores)),
                *self.quantization, *options, "--json"]),
            self.name, timeout=ENGINE_SECONDS)
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        figures = [line["tokens_per_second"] for line in lines if line.get("name") == name]
        if len(figures) != 1:
            raise Skip(f"{PROGRAM} engine printed {len(figures)} lines called {name}, not one")
        return figures[0]

    def decode(self, cores, batch, context):
        return self.engine(
            cores, "decode", "--batch", str(batch), "--context", str(context), "--prefill", "0")

    def prefill(self, cores, length):
        return self.engine(
            cores, "prefill", "--prefill", str(length), "--steps", str(PREFILL_STEPS),
            "--batch", "0")

    def release(self):
        """Nothing stays between measurements."""

    def serve(self, cores, folder, longest):
        for name in DAEMONS:
            self.build.program(name)
        environment = dict(
            os.environ, MODEL=self.model, DP=str(self.data_parallel_size), TP="1", PORT="0",
            BIN=self.build.folder, VERBOSE="",
            ARGS=f"--max-model-len {longest} --served-model-name bench {self.arguments}")
        script = os.path.join(SCRIPTS, "serve.py")
        cell = Cell(
            pinned(cores, [sys.executable, "-u", script]), self.name, environment,
            os.path.join(folder, "phalanx.log"))
        try:
            line = cell.line(READY_SECONDS, lambda line: line.startswith("ready "))
            port = int(re.search(r":(\d+)", line.partition("http")[2]).group(1))
            server = Server(cell, port, "bench")
            complete(server)
            return server
        except (Skip, OSError, ValueError) as error:
            cell.end()
            raise Skip(f"{self.name}: {error}") from None


class Cell(Held):
    """Ends between measurements instead of being stopped: its leases would run out."""

    stays = False

    def end(self, how=signal.SIGINT, patience=60):
        super().end(how, patience)

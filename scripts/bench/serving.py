"""Servers, and the one client that measures all of them."""
import json
import os
import socket
import time
import urllib.error
import urllib.request

from .processes import Skip, pinned, run

READY_SECONDS = 900
CLIENT_SECONDS = 3600
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
METRICS = ("ttft", "tpot")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server that answers; `process` is a Held or has its `pause`, `resume` and `end`."""

    def __init__(self, process, port, model):
        self.process = process
        self.port = port
        self.model = model

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"


def complete(server):
    """One short completion, so that a server whose weights still load does not count as ready."""
    body = json.dumps({"model": server.model, "prompt": "One", "max_tokens": 2}).encode()
    request = urllib.request.Request(
        server.address + "/v1/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def wait_until_serving(process, port, model):
    server = Server(process, port, model)
    deadline = time.monotonic() + READY_SECONDS
    reason = "no answer"
    while time.monotonic() < deadline:
        if process.child.poll() is not None:
            raise process.failed(f"ended with code {process.child.returncode}")
        try:
            complete(server)
            return server
        except (OSError, ValueError, urllib.error.HTTPError) as error:
            reason = str(error)
        time.sleep(0.5)
    process.end()
    raise process.failed(f"not serving after {READY_SECONDS} s: {reason}")


class Client:
    """`phalanx-bench serve`, or another program with the options of `vllm bench serve`."""

    def __init__(self, command, tokenizer, environment=None):
        self.command = command
        self.tokenizer = tokenizer
        self.environment = environment

    def measure(self, server, cores, load, folder, seed):
        """The result file of `load`: prompts, input, output and rate (None: all at once)."""
        name = f"result-{seed}.json"
        path = os.path.join(folder, name)
        if os.path.exists(path):
            os.remove(path)
        rate = "inf" if load["rate"] is None else str(load["rate"])
        run(pinned(cores, [
            *self.command, "--backend", "openai", "--base-url", server.address,
            "--endpoint", "/v1/completions", "--model", server.model,
            "--tokenizer", self.tokenizer, "--dataset-name", "random",
            "--random-input-len", str(load["input"]), "--random-output-len", str(load["output"]),
            "--num-prompts", str(load["prompts"]), "--request-rate", rate, "--seed", str(seed),
            "--ignore-eos", "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles",
            ",".join(map(str, PERCENTILES)), "--save-result", "--result-dir", folder,
            "--result-filename", name, "--disable-tqdm"]),
            "the client", self.environment, CLIENT_SECONDS)
        with open(path, encoding="utf-8") as text:
            result = json.load(text)
        if result["completed"] != load["prompts"]:
            raise Skip(f"{result['completed']} of {load['prompts']} requests were answered")
        return result


def columns(result):
    """What is kept of a result: throughput, then mean and percentiles of each metric in ms."""
    kept = {"output tok/s": result["output_throughput"]}
    for metric in METRICS:
        kept[f"mean {metric}"] = result[f"mean_{metric}_ms"]
        for percentile in PERCENTILES:
            kept[f"p{percentile} {metric}"] = result[f"p{percentile}_{metric}_ms"]
    return kept

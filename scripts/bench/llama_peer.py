"""llama.cpp, built from the source distribution of llama-cpp-python for this CPU.

Under the cache folder: `llama/venv` (cmake, ninja), `llama/src`, `llama/build`, `gguf` (converted
checkpoints). A figure comes from llama.cpp's own programs: llama-batched-bench for decoding,
llama-bench for prefill, llama-server for serving.
"""
import glob
import hashlib
import json
import os
import shutil
import sys
import tarfile

from .processes import Held, Skip, pinned, run
from .serving import free_port, wait_until_serving

PACKAGE = "llama-cpp-python"
PROGRAMS = ("llama-bench", "llama-batched-bench", "llama-quantize", "llama-server")
# Steps of a decode measurement; the context is its mean.
STEPS = 32
# Prompts at once in llama-server, as many as the serving benchmark sends.
SLOTS = 50
BUILD_SECONDS = 3 * 3600


def processor_flags():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith("flags"):
                return set(line.split(":", 1)[1].split())
    return set()


def flags_for(processor):
    """Compiler flags: without AMX, whose buffers end llama.cpp with an assertion as soon as they
    hold a Q8_0 tensor of this architecture. No other kind of weights would use it.
    """
    return [f"-mno-{name.replace('_', '-')}" for name in sorted(processor) if name.startswith("amx")]


class LlamaBuild:
    """Installs and builds once; says where the programs and the converted checkpoints are."""

    def __init__(self, cache, version, jobs, say):
        self.cache = cache
        self.folder = os.path.join(cache, "llama")
        self.version = version
        self.jobs = jobs
        self.say = say

    def program(self, name):
        return os.path.join(self.folder, "build", "bin", name)

    def prepare(self):
        if all(os.access(self.program(name), os.X_OK) for name in PROGRAMS):
            return
        if not shutil.which("gcc") and not shutil.which("cc"):
            raise Skip("llama.cpp: there is no C compiler")
        binaries = os.path.join(self.folder, "venv", "bin")
        self.say(f"installing {PACKAGE} {self.version} into {self.folder}")
        run([sys.executable, "-m", "venv", os.path.dirname(binaries)], "llama.cpp: venv")
        pip = os.path.join(binaries, "pip")
        run([pip, "install", "-q", "cmake", "ninja", "scikit-build-core"], "llama.cpp: build tools")
        source = self.unpack(pip)
        build = os.path.join(self.folder, "build")
        environment = dict(os.environ, PATH=binaries + ":" + os.environ["PATH"], CC="cc", CXX="c++")
        flags = " ".join(flags_for(processor_flags()))
        self.say("building llama.cpp (the first time takes a quarter of an hour)")
        run([os.path.join(binaries, "cmake"), "-G", "Ninja", "-S", source, "-B", build,
             "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF",
             f"-DCMAKE_C_FLAGS={flags}", f"-DCMAKE_CXX_FLAGS={flags}",
             "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF",
             "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF"],
            "llama.cpp: cmake", environment)
        run(["nice", "-n", "10", os.path.join(binaries, "ninja"), "-C", build, "-j", str(self.jobs),
             *PROGRAMS], "llama.cpp: build", environment, BUILD_SECONDS)

    def source(self):
        found = glob.glob(
            os.path.join(self.folder, "src", "llama_cpp_python-*", "vendor", "llama.cpp"))
        return found[0] if found else None

    def unpack(self, pip):
        folder = os.path.join(self.folder, "src")
        if not self.source():
            run([pip, "download", "-q", "--no-deps", "--no-build-isolation", "--no-binary", PACKAGE,
                 "-d", folder, f"{PACKAGE}=={self.version}"], f"llama.cpp: {PACKAGE}", timeout=1800)
            for path in glob.glob(os.path.join(folder, "*.tar.gz")):
                with tarfile.open(path) as archive:
                    archive.extractall(folder)
        if not self.source():
            raise Skip(f"llama.cpp: {PACKAGE} {self.version} holds no vendor/llama.cpp")
        return self.source()

    def gguf(self, model, kind, python):
        """The checkpoint as GGUF of `kind` (bf16, q8_0), converted by llama.cpp's own script."""
        shards = sorted(glob.glob(os.path.join(model, "*.safetensors")))
        key = hashlib.sha256(repr(
            [(os.path.realpath(path), os.path.getsize(path), os.path.getmtime(path))
             for path in shards]).encode()).hexdigest()[:12]
        name = os.path.basename(os.path.realpath(model))
        folder = os.path.join(self.cache, "gguf")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"{name}-{key}-{kind}.gguf")
        if os.path.exists(path):
            return path
        self.say(f"converting {model} to {os.path.basename(path)}")
        if kind == "bf16":
            script = os.path.join(self.source(), "convert_hf_to_gguf.py")
            run([python(), script, model, "--outtype", "bf16", "--outfile", path + ".part"],
                f"llama.cpp: converting {model}", timeout=1800)
        else:
            run([self.program("llama-quantize"), self.gguf(model, "bf16", python), path + ".part",
                 kind, str(os.cpu_count())], f"llama.cpp: quantising {model}", timeout=1800)
        os.rename(path + ".part", path)
        return path


class LlamaPeer:
    """llama.cpp with one kind of weights."""

    is_peer = True

    def __init__(self, build, kind, model, python):
        self.build = build
        self.kind = kind
        self.name = f"llama.cpp {kind.upper()}"
        self.model = model
        self.python = python
        self.path = None

    def prepare(self):
        self.build.prepare()
        self.path = self.build.gguf(self.model, self.kind, self.python)

    def decode(self, cores, batch, context):
        prompt = context - STEPS // 2
        threads = str(len(cores))
        output = run(
            pinned(cores, [
                self.build.program("llama-batched-bench"), "-m", self.path,
                "-npp", str(prompt), "-ntg", str(STEPS), "-npl", str(batch),
                "-c", str(batch * (prompt + STEPS)), "-b", "2048", "-ub", "512",
                "-t", threads, "-tb", threads, "--output-format", "jsonl"]),
            self.name, timeout=1800)
        return next(json.loads(line)["speed_tg"] for line in output.splitlines()
                    if line.startswith("{"))

    def prefill(self, cores, length):
        # The first prompt brings the weights in, so that a long one needs no warm-up of its size.
        output = run(
            pinned(cores, [
                self.build.program("llama-bench"), "-m", self.path, "--no-warmup", "-r", "1",
                "-p", f"256,{length}", "-n", "0", "-t", str(len(cores)),
                "-o", "json"]),
            self.name, timeout=3600)
        return next(line["avg_ts"] for line in json.loads(output) if line["n_prompt"] == length)

    def release(self):
        """Nothing stays between measurements."""

    def serve(self, cores, folder, longest):
        port = free_port()
        log = os.path.join(folder, f"llama-server-{self.kind}.log")
        server = Held(
            pinned(cores, [
                self.build.program("llama-server"), "-m", self.path, "--host", "127.0.0.1",
                "--port", str(port), "-np", str(SLOTS), "-c", str(SLOTS * longest),
                "-t", str(len(cores)), "-tb", str(len(cores)), "--cache-ram", "0",
                "--alias", "bench"]),
            self.name, log=log)
        return wait_until_serving(server, port, "bench")

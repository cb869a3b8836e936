"""What the machine can do at most, and what one token of a checkpoint needs at least."""
import glob
import json
import os
import re
import struct

from .processes import Skip, pinned, run

SECONDS = 1.0
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "limits.c")


class Limits:
    """Compiles limits.c into the cache folder and runs it on the given cores."""

    name = "limits"

    def __init__(self, cache):
        self.program = os.path.join(cache, "limits")

    def prepare(self):
        for compiler in ("cc", "gcc", "clang"):
            try:
                run([compiler, "-O3", "-march=native", "-o", self.program, SOURCE, "-lpthread"],
                    f"limits: {compiler}")
                return
            except Skip as error:
                reason = error
        raise reason

    def measure(self, cores):
        """{"read": GB/s, "vnni": GOP/s, "bf16": GFLOP/s}, without what the CPU lacks."""
        output = run(
            pinned(cores, [self.program, str(SECONDS), *map(str, cores)]), "limits", timeout=120)
        lines = [json.loads(line) for line in output.splitlines()]
        return {line["name"]: line["giga_per_second"] for line in lines}


class Checkpoint:
    """Sizes of a DeepSeek-V3 checkpoint, from its configuration and its safetensors headers."""

    ROUTED = re.compile(r"\.mlp\.experts\.\d+\.")
    QUANTISED = (".weight_scale", ".weight_offset", ".deq_scale", ".input_offset", ".input_scale",
                 ".quant_bias", ".weight_scale_inv")

    # What `--quantization w8a8` leaves as it is.
    KEPT = ("embed_tokens.weight", ".mlp.gate.weight", ".kv_b_proj.weight")

    def __init__(self, folder, at_load=False):
        self.folder = folder
        self.at_load = at_load
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as text:
            self.config = json.load(text)
        self.tensors = {}
        for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
            with open(path, "rb") as data:
                (size,) = struct.unpack("<Q", data.read(8))
                header = json.loads(data.read(size))
            header.pop("__metadata__", None)
            self.tensors.update(header)

    def active(self, size):
        """Sum of `size(name, tensor)` over what one token uses; the embedding counts one row."""
        share = self.config["num_experts_per_tok"] / self.config["n_routed_experts"]
        total = 0.0
        for name, tensor in self.tensors.items():
            if name.endswith("embed_tokens.weight"):
                total += size(name, tensor) / tensor["shape"][0]
            else:
                total += size(name, tensor) * (share if self.ROUTED.search(name) else 1)
        return total

    def bytes_per_token(self, context):
        """Bytes that a decode step of one sequence must read: weights as stored, bfloat16 cache."""
        config = self.config
        latent = config["kv_lora_rank"] + config["qk_rope_head_dim"]
        def stored(name, tensor):
            is_matrix = len(tensor["shape"]) == 2 and not name.endswith(self.QUANTISED)
            if self.at_load and is_matrix and not name.endswith(self.KEPT):
                return tensor["shape"][0] * tensor["shape"][1]
            return tensor["data_offsets"][1] - tensor["data_offsets"][0]

        weights = self.active(stored)
        return weights + 2 * latent * config["num_hidden_layers"] * context

    def prefill_operations(self, tokens, all_rows=False):
        """Operations to prefill a prompt: every matrix for each token, causal attention with
        unpacked heads, the vocabulary for the last token alone (or for `all_rows`)."""
        def elements(name, tensor):
            is_matrix = len(tensor["shape"]) == 2 and not name.endswith(self.QUANTISED)
            if not is_matrix or name.endswith("embed_tokens.weight"):
                return 0
            return tensor["shape"][0] * tensor["shape"][1]

        config = self.config
        matrices = self.active(elements)
        vocabulary = config["vocab_size"] * config["hidden_size"]
        heads = config["num_attention_heads"] * (
            config["qk_nope_head_dim"] + config["qk_rope_head_dim"] + config["v_head_dim"])
        attention = config["num_hidden_layers"] * heads * (tokens + 1) / 2
        rows = tokens if all_rows else 1
        return 2 * (tokens * (matrices - vocabulary + attention) + rows * vocabulary)

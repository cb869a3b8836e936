"""Measures vLLM's engine without a server; runs in the peer's own Python, started by vllm_peer.py.

It loads the model once, says so, then answers each line of standard input with one of output:

  {"name": "decode", "batch": 8, "context": 128, "steps": 32}
  {"name": "prefill", "tokens": 512}

Prompts are random token ids. A decode figure counts from the step after which every sequence has
its first token to the last step; a prefill figure is the time to the first token of one prompt.
"""
import json
import os
import random
import sys
import time

PREFIX = "@figure "
REAL_OUTPUT = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # what libraries print goes to standard error


def say(value):
    REAL_OUTPUT.write(PREFIX + json.dumps(value) + "\n")
    REAL_OUTPUT.flush()


def run(engine, sampling, prompts):
    """Times of the steps at which every sequence has begun and has ended, and tokens between."""
    for index, prompt in enumerate(prompts):
        engine.add_request(f"{time.monotonic_ns()}-{index}", {"prompt_token_ids": prompt}, sampling)
    counts = {}
    started = time.perf_counter()
    begun, at_begin = None, 0
    while engine.has_unfinished_requests():
        for output in engine.step():
            counts[output.request_id] = len(output.outputs[0].token_ids)
        if begun is None and len(counts) == len(prompts) and all(counts.values()):
            begun, at_begin = time.perf_counter(), sum(counts.values())
    ended = time.perf_counter()
    return begun - started, ended - begun, sum(counts.values()) - at_begin


def main():
    model, longest, sequences = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    from vllm import LLM, SamplingParams
    started = time.perf_counter()
    llm = LLM(
        model=model, dtype="bfloat16", enforce_eager=True, enable_prefix_caching=False,
        max_model_len=longest, max_num_seqs=sequences,
        max_num_batched_tokens=max(longest, 8192), disable_log_stats=True, seed=0)
    engine = llm.llm_engine
    generator = random.Random(0)

    def measure(prompt, batch, tokens):
        prompts = [[generator.randrange(1000, 100000) for _ in range(prompt)] for _ in range(batch)]
        sampling = SamplingParams(
            temperature=0.0, ignore_eos=True, max_tokens=tokens, detokenize=False)
        return run(engine, sampling, prompts)

    measure(64, 2, 4)
    say({"ready": round(time.perf_counter() - started, 1)})
    for line in sys.stdin:
        task = json.loads(line)
        if task["name"] == "decode":
            prompt = task["context"] - task["steps"] // 2
            _, seconds, tokens = measure(prompt, task["batch"], task["steps"] + 1)
            task["tokens_per_second"] = tokens / seconds
        else:
            seconds, _, _ = measure(task["tokens"], 1, 1)
            task["tokens_per_second"] = task["tokens"] / seconds
        say(task)


if __name__ == "__main__":
    main()

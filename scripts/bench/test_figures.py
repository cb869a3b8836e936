"""Of the arithmetic alone: no peer, no program and no model is needed."""
import json
import os
import struct
import tempfile
import unittest

from bench.figures import Figures, Goal, ratios, summary, table
from bench.goals import goals
from bench.limits import Checkpoint
from bench.phalanx_system import PhalanxSystem
from bench.processes import Others, Skip, run

CONFIG = {"num_experts_per_tok": 2, "n_routed_experts": 4, "kv_lora_rank": 6, "qk_rope_head_dim": 2,
          "qk_nope_head_dim": 3, "v_head_dim": 5, "num_attention_heads": 2, "num_hidden_layers": 3,
          "vocab_size": 10, "hidden_size": 4}


class FiguresTests(unittest.TestCase):
    def test_only_rounds_that_both_have_are_divided(self):
        self.assertEqual(ratios({1: 6, 2: 8, 3: 9}, {1: 3, 3: 2}), [2, 4.5])

    def test_a_round_of_nothing_is_no_ratio(self):
        self.assertEqual(ratios({1: 6}, {1: 0}), [])

    def test_a_summary_has_median_and_spread(self):
        self.assertEqual(summary([3, 1, 2]), "2.0 (1.0-3.0)")
        self.assertEqual(summary([1234]), "1,234.0")
        self.assertEqual(summary([]), "-")

    def test_a_table_is_aligned_markdown(self):
        self.assertEqual(table(["", "one"], [["long", 1]]),
                         "|      | one |\n|------|-----|\n| long | 1   |")

    def test_the_best_system_has_the_highest_median(self):
        figures = Figures()
        for number, (left, right) in enumerate([(1, 2), (9, 3), (1, 4)], 1):
            figures.add("decode", 1, 8, "left", left, number, 0)
            figures.add("decode", 1, 8, "right", right, number, 0)
        self.assertEqual(figures.best("decode", 1, 8, ["left", "right", "absent"]), "right")
        self.assertIsNone(figures.best("decode", 2, 8, ["left"]))

    def test_a_goal_is_judged_by_its_median(self):
        self.assertEqual(Goal("", [1, 3, 2], 2).verdict, "reached")
        self.assertEqual(Goal("", [1, 3, 1.9], 2).verdict, "not reached")
        self.assertEqual(Goal("", [1.0], 1, less=True).verdict, "not reached")
        self.assertEqual(Goal("", [], 2).verdict, "not measured")


class GoalsTests(unittest.TestCase):
    class Peer:
        is_peer = True

        def __init__(self, name):
            self.name = name

    def judge(self, values):
        """Goals by text, of {(bench, threads, column): {system: value}} in one round."""
        figures = Figures()
        for (bench, threads, column), systems in values.items():
            for name, value in systems.items():
                figures.add(bench, threads, column, name, value, 1, 0)
        peers = [self.Peer("llama.cpp Q8_0"), self.Peer("other"),
                 PhalanxSystem(None, "W8A8", "", 2, "")]
        return {goal.text: goal for goal in goals(figures, peers, {}, 128)}

    def test_decoding_is_compared_with_the_best_peer_and_never_with_phalanx(self):
        goal = self.judge({("decode", 2, 8): {
            "Phalanx W8A8": 50, "llama.cpp Q8_0": 10, "other": 25}})[
                "decode, batch 8, W8A8, 2 threads: times the best peer"]
        self.assertEqual((goal.value, goal.verdict, goal.note), (2, "not reached", "other"))

    def test_latency_is_judged_at_the_worst_percentile(self):
        values = {("serve inf/s", 2, "output tok/s"): {"Phalanx W8A8": 30, "other": 10}}
        for percentile, ours in ((1, 5), (50, 12), (99, 9)):
            values["serve inf/s", 2, f"p{percentile} ttft"] = {"Phalanx W8A8": ours, "other": 10}
        judged = self.judge(values)
        goal = judged["serve inf/s, W8A8: TTFT of the best peer's, at the worst percentile"]
        self.assertEqual((goal.value, goal.verdict, goal.note), (1.2, "not reached", "other, p50"))
        throughput = judged["serving, all at once, W8A8: output tokens/s, times the best peer"]
        self.assertEqual(throughput.verdict, "reached")

    def test_without_figures_nothing_is_judged(self):
        self.assertEqual(self.judge({}), {})


class CheckpointTests(unittest.TestCase):
    def checkpoint(self, folder):
        shapes = {"model.embed_tokens.weight": [10, 4], "lm_head.weight": [10, 4],
                  "model.norm.weight": [4], "model.layers.0.self_attn.o_proj.weight": [4, 10]}
        for expert in range(4):
            shapes[f"model.layers.1.mlp.experts.{expert}.up_proj.weight"] = [8, 4]
            shapes[f"model.layers.1.mlp.experts.{expert}.up_proj.weight_scale"] = [8, 1]
        header, offset = {}, 0
        for name, shape in shapes.items():
            size = 2 * (shape[0] * shape[1] if len(shape) == 2 else shape[0])
            header[name] = {"dtype": "BF16", "shape": shape,
                            "data_offsets": [offset, offset + size]}
            offset += size
        text = json.dumps(header).encode()
        with open(os.path.join(folder, "model.safetensors"), "wb") as data:
            data.write(struct.pack("<Q", len(text)) + text)
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as data:
            json.dump(CONFIG, data)
        return Checkpoint(folder)

    def test_what_becomes_int8_at_load_counts_one_byte(self):
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = self.checkpoint(folder)
            stored = checkpoint.bytes_per_token(0)
            loaded = Checkpoint(folder, at_load=True).bytes_per_token(0)
            # The head of 40, the projection of 40 and half of four experts of 32, at 1 instead of 2.
            self.assertEqual(stored - loaded, 40 + 40 + 2 * 32)

    def test_a_token_reads_one_row_of_the_embedding_and_its_experts(self):
        with tempfile.TemporaryDirectory() as folder:
            # A row of 4, vocabulary 40, norm 4, projection 40, two of four experts of 32 and 8.
            weights = 2 * (4 + 40 + 4 + 40 + 2 * (32 + 8))
            cache = 2 * (6 + 2) * 3 * 100
            self.assertEqual(self.checkpoint(folder).bytes_per_token(100), weights + cache)

    def test_prefill_projects_the_vocabulary_once(self):
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = self.checkpoint(folder)
            # Per token 40 + 2 experts of 32; causal attention of 7 tokens: 4 on average.
            attention = 3 * 2 * (3 + 2 + 5) * 4
            expected = 2 * (7 * (40 + 2 * 32 + attention) + 40)
            self.assertEqual(checkpoint.prefill_operations(7), expected)
            self.assertEqual(checkpoint.prefill_operations(7, True), expected + 2 * 6 * 40)


class ProcessesTests(unittest.TestCase):
    def test_a_command_that_fails_is_skipped_with_its_last_words(self):
        with self.assertRaisesRegex(Skip, "(?s)the tool: exit code 3.*broken"):
            run(["sh", "-c", "echo broken >&2; exit 3"], "the tool")

    def test_a_program_that_is_missing_is_skipped_by_name(self):
        with self.assertRaisesRegex(Skip, "there is no program no-such-program"):
            run(["no-such-program"], "the tool")

    def test_a_command_that_hangs_is_ended(self):
        with self.assertRaisesRegex(Skip, "not finished after 0 s"):
            run(["sleep", "1000"], "the tool", timeout=0.1)

    def test_own_work_is_not_the_others(self):
        others = Others()
        before = others.family()
        deadline = os.times().user + 0.1
        while os.times().user < deadline:
            pass
        self.assertGreaterEqual(others.family() - before, 8)
        self.assertLessEqual(others.share(), 1)


if __name__ == "__main__":
    unittest.main()

"""Pages and completions of made-up programs."""

import json
import os
import shutil
import stat
import subprocess
import tempfile
import unittest

import manual

TABLE = {
    "version": "1.2.3",
    "daemons": ["phalanx-gateway", "phalanx-coordinator", "phalanx-engine-worker"],
    "options": [
        {
            "name": "model", "values": {"kind": "text"}, "scope": "deployment",
            "daemons": ["phalanx-gateway", "phalanx-coordinator", "phalanx-engine-worker"],
            "default": None, "help": "Folder's name.", "refused": {},
        },
        {
            "name": "level", "values": {"kind": "choice", "choices": ["auto", "avx2"]},
            "scope": "process", "daemons": ["phalanx-engine-worker"], "default": "auto",
            "help": ".begins with a dot and has a back\\slash", "refused": {"neon": "no"},
        },
        {
            "name": "quick", "values": {"kind": "flag"}, "scope": "process",
            "daemons": ["phalanx-gateway"], "default": "false", "help": "Be quick.", "refused": {},
        },
        {
            "name": "port", "values": {"kind": "integer", "min": 0, "max": 9}, "scope": "process",
            "daemons": ["phalanx-gateway"], "default": "8", "help": "A port.", "refused": {},
        },
    ],
    "commands": [
        {
            "name": "status", "arguments": "[--json]", "summary": "asks",
            "page": "usage: phalanxctl status\n\n.odd line\n  --json   one line\n",
        },
        {"name": "help", "arguments": "[COMMAND]", "summary": "helps", "page": "usage: help\n"},
    ],
}
BENCH = "usage: phalanx-bench\n\n  --rows N   rows\n"


class ManualTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        for name, text in [("phalanxctl", json.dumps(TABLE)), ("phalanx-bench", BENCH)]:
            path = os.path.join(cls.folder, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
            os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
        cls.programs = manual.Programs(cls.folder)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def test_every_program_has_a_page_and_a_completion(self):
        self.assertEqual(
            sorted(manual.pages(self.programs)),
            [
                "man1/phalanx-bench.1", "man1/phalanxctl.1", "man5/phalanx.yaml.5",
                "man8/phalanx-coordinator.8", "man8/phalanx-engine-worker.8",
                "man8/phalanx-gateway.8",
            ],
        )
        self.assertEqual(len(manual.completions(self.programs)), 5)

    def test_a_page_has_the_options_of_its_daemon_alone(self):
        pages = manual.pages(self.programs)
        worker = pages["man8/phalanx-engine-worker.8"]
        self.assertIn("\\-\\-level", worker)
        self.assertIn("Refused: neon, because no.", worker)
        self.assertNotIn("quick", worker)
        self.assertIn("From 0 to 9. Default: 8.", pages["man8/phalanx-gateway.8"])
        self.assertIn("\\-\\-no\\-quick", pages["man8/phalanx-gateway.8"])

    def test_no_text_becomes_a_request_of_roff(self):
        known = {".TH", ".SH", ".SS", ".TP", ".PP", ".BR", ".nf", ".fi", ".br", '.\\"'}
        for path, page in manual.pages(self.programs).items():
            for line in page.splitlines():
                if line.startswith((".", "'")):
                    self.assertIn(line.split(" ")[0], known, path)
        self.assertEqual(manual.escape("a\\b"), "a\\eb")

    @unittest.skipUnless(shutil.which("man"), "man is not installed")
    def test_man_has_no_warnings(self):
        for path, page in manual.pages(self.programs).items():
            with tempfile.NamedTemporaryFile("w", suffix=os.path.basename(path)) as file:
                file.write(page)
                file.flush()
                result = subprocess.run(
                    ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", file.name],
                    capture_output=True, text=True, timeout=60, env=os.environ | {"LC_ALL": "C.UTF-8"},
                )
            self.assertEqual((result.returncode, result.stderr), (0, ""), path)

    def complete(self, program, *words):
        """What bash offers for the last word."""
        with tempfile.NamedTemporaryFile("w", suffix=".bash") as file:
            file.write(manual.completions(self.programs)[program])
            file.flush()
            quoted = " ".join(f"'{word}'" for word in (program, *words))
            script = (
                f"compopt() {{ :; }}; source {file.name}; COMP_WORDS=({quoted}); "
                f"COMP_CWORD={len(words)}; _{program.replace('-', '_')}; "
                'printf "%s\\n" "${COMPREPLY[@]}"'
            )
            result = subprocess.run(
                ["bash", "-c", script], capture_output=True, text=True, timeout=20, check=True
            )
        self.assertEqual(result.stderr, "")
        return result.stdout.split()

    def test_options_and_their_values_are_completed(self):
        self.assertEqual(self.complete("phalanx-engine-worker", "--le"), ["--level"])
        self.assertEqual(self.complete("phalanx-engine-worker", "--level", "av"), ["avx2"])
        self.assertEqual(self.complete("phalanx-gateway", "--no"), ["--no-quick"])
        self.assertEqual(self.complete("phalanx-gateway", "--level"), [])

    def test_commands_and_their_options_are_completed(self):
        self.assertEqual(self.complete("phalanxctl", "st"), ["status"])
        self.assertEqual(self.complete("phalanxctl", "status", "--j"), ["--json"])
        self.assertEqual(self.complete("phalanxctl", "help", "st"), ["status"])
        self.assertEqual(self.complete("phalanx-bench", "engine", "--r"), ["--rows"])


if __name__ == "__main__":
    unittest.main()

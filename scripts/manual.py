#!/usr/bin/env python3
"""Manual pages and bash completions of the five programs, made of what the programs say themselves.

  scripts/manual.py man        FOLDER_OF_PROGRAMS OUT    OUT/man1, OUT/man5, OUT/man8
  scripts/manual.py completion FOLDER_OF_PROGRAMS OUT    OUT/PROGRAM, one a program

`phalanxctl help --json` has the options of the daemons and the pages of its commands, and
`phalanx-bench COMMAND --help` those of the benchmarks. What stands here is only what no program
says of itself: what it is for, its files, signals and exit codes.
"""

import json
import os
import re
import subprocess
import sys

from release_date import release_time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TIMEOUT_SECONDS = 20
BENCHMARKS = ["serve", "engine", "exchange"]
DAEMON_WORDS = {
    "phalanx-coordinator": (
        "membership and views of a Phalanx deployment",
        "There is one coordinator a deployment. It admits the other processes, hands them the "
        "configuration, makes the views of the lock-step group and wakes it when it is idle. No "
        "token passes through it.",
    ),
    "phalanx-gateway": (
        "HTTP server of a Phalanx deployment",
        "A gateway serves the HTTP API of vLLM, turns text into tokens and back, and sends each "
        "sequence to a data-parallel rank. There may be several.",
    ),
    "phalanx-engine-worker": (
        "one accelerator of a Phalanx deployment",
        "An engine worker holds its part of the model and computes with it, in lock-step with all "
        "other workers of the deployment. There is one for each accelerator.",
    ),
}
SIGNALS = {
    "phalanx-coordinator": "SIGTERM and SIGINT end it at once. Running sequences go on; see "
    "LIMITS for an idle deployment.",
    "phalanx-gateway": "SIGTERM and SIGINT drain it: new requests are answered 503, running ones "
    "finish within --shutdown-timeout. A second one ends it at once.",
    "phalanx-engine-worker": "SIGTERM and SIGINT drain it: it takes no new sequences and leaves "
    "when its own have ended, at the latest after --shutdown-timeout. The view then ends for all.",
}
SYSTEMD = (
    "Under a service manager the daemon reports READY=1, STATUS= and, where the unit has "
    "WatchdogSec=, WATCHDOG=1; it logs to the journal with fields that begin with PHALANX_."
)
EXITS = [
    ("0", "it was stopped by a signal, or drained"),
    ("1", "it cannot go on; the last line of the log says why"),
    ("64", "the command line or the configuration file is refused"),
]
MANUAL = "Phalanx"


def run(program, *arguments):
    """What a program prints; a program that fails ends this one."""
    try:
        result = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.exit(f"{program}: {error}; build the programs first (make build)")
    if result.returncode != 0:
        sys.exit(f"{program} {' '.join(arguments)} ends with {result.returncode}: {result.stderr}")
    return result.stdout


class Programs:
    """What the programs say of themselves."""

    def __init__(self, folder):
        self.table = json.loads(run(os.path.join(folder, "phalanxctl"), "help", "--json"))
        bench = os.path.join(folder, "phalanx-bench")
        self.benchmarks = {name: run(bench, name, "--help") for name in BENCHMARKS}
        self.version = self.table["version"]
        self.daemons = self.table["daemons"]
        self.commands = self.table["commands"]

    def options(self, daemon=None, scope=None):
        return [
            option
            for option in self.table["options"]
            if (daemon is None or daemon in option["daemons"])
            and (scope is None or option["scope"] == scope)
        ]


# MARK: Manual pages


def escape(text):
    """Text as roff shows it: hyphens of options are to be copied from the page as they are."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga")
    text = text.replace("'", "\\(aq").replace("~", "\\(ti").replace("^", "\\(ha")
    return "\\&" + text if text.startswith(".") else text


def header(name, section, version, summary):
    date = release_time(ROOT).strftime("%Y-%m-%d")
    return (
        f".\\\" Made by scripts/manual.py of what the program says; do not edit.\n"
        f'.TH {name.upper()} {section} "{date}" "Phalanx {version}" "{MANUAL}"\n'
        f".SH NAME\n{escape(name)} \\- {escape(summary)}\n"
    )


def paragraph(text):
    return f".PP\n{escape(text)}\n"


def preformatted(text, is_first=True):
    """Lines as they are; behind other text in its section they begin a paragraph."""
    lines = "".join(escape(line) + "\n" for line in text.rstrip("\n").split("\n"))
    return ("" if is_first else ".PP\n") + f".nf\n{lines}.fi\n"


def value_word(option):
    """What stands for the value of an option."""
    values = option["values"]
    kind = values["kind"]
    if kind == "flag":
        return None
    if kind == "choice":
        return "|".join(values["choices"])
    return {"integer": "N", "number": "X", "text": "TEXT", "list": "TEXT ..."}[kind]


def option_entry(option, prefix="--"):
    word = value_word(option)
    shown = f"\\fB{escape(prefix + option['name'])}\\fR"
    if word is not None:
        shown += f" \\fI{escape(word)}\\fR" if prefix else f": \\fI{escape(word)}\\fR"
    elif prefix:
        shown += f", \\fB{escape('--no-' + option['name'])}\\fR"
    notes = [option["help"]]
    values = option["values"]
    if values["kind"] in ("integer", "number"):
        notes.append(f"From {number(values['min'])} to {number(values['max'])}.")
    if option["default"] is not None:
        notes.append(f"Default: {option['default']}.")
    for value, reason in option["refused"].items():
        notes.append(f"Refused: {value}, because {reason}.")
    return f".TP\n{shown}\n{escape(' '.join(notes))}\n"


def number(value):
    return str(int(value)) if float(value).is_integer() else str(value)


def daemon_page(programs, daemon):
    summary, description = DAEMON_WORDS[daemon]
    page = header(daemon, 8, programs.version, summary)
    page += f".SH SYNOPSIS\n\\fB{escape(daemon)}\\fR [\\fIMODEL\\fR] [\\fB\\-\\-option\\fR \\fIvalue\\fR ...]\n"
    page += f".SH DESCRIPTION\n{escape(description)}\n"
    page += paragraph(SYSTEMD)
    page += ".SH OPTIONS OF THE PROCESS\n"
    page += "".join(option_entry(option) for option in programs.options(daemon, "process"))
    page += ".TP\n\\fB\\-\\-help\\fR, \\fB\\-\\-version\\fR\nPrints these options or the version, and ends.\n"
    page += ".SH OPTIONS OF THE DEPLOYMENT\n"
    if daemon == "phalanx-coordinator":
        page += escape("They count for all processes of the deployment.") + "\n"
    else:
        page += escape(
            "They are the coordinator's to say. A process that is given another value than the "
            "coordinator's is refused."
        ) + "\n"
    page += "".join(option_entry(option) for option in programs.options(daemon, "deployment"))
    page += f".SH SIGNALS\n{escape(SIGNALS[daemon])}\n"
    page += ".SH EXIT STATUS\n"
    page += "".join(f".TP\n{code}\n{escape(text)}\n" for code, text in EXITS)
    page += (
        ".SH FILES\n.TP\n\\fI/etc/phalanx/phalanx.yaml\\fR\n"
        + escape("A usual place for the file of --config; none is read unless it is named.")
        + "\n.TP\n\\fI/etc/phalanx/keys\\fR\n"
        + escape("A usual place for the folder of --keys, which phalanxctl keys makes.")
        + "\n"
    )
    if daemon == "phalanx-coordinator":
        page += ".SH LIMITS\n" + escape(
            "While the coordinator is down, an idle deployment of several workers cannot be "
            "woken: let the service manager restart it."
        ) + "\n"
    others = sorted(name for name in programs.daemons if name != daemon)
    return page + see_also([(name, 8) for name in others] + [("phalanxctl", 1), ("phalanx.yaml", 5)])


def see_also(others):
    """Cross-references, each a line of its own."""
    lines = [f".BR {escape(name)} ({section})" for name, section in others]
    return ".SH SEE ALSO\n" + " ,\n".join(lines) + "\n"


def control_page(programs):
    page = header("phalanxctl", 1, programs.version, "runs, watches and checks a Phalanx deployment")
    lines = [
        f"\\fBphalanxctl {escape(command['name'])}\\fR {escape(command['arguments'])}\n"
        for command in programs.commands
    ]
    page += ".SH SYNOPSIS\n" + ".br\n".join(lines)
    page += ".SH DESCRIPTION\n" + escape(
        "The operator's tool. Options of the daemons that a command takes are those of "
        "phalanx-engine-worker(8) and phalanx-gateway(8), and of vllm serve for plan and serve."
    ) + "\n.SH COMMANDS\n"
    for command in programs.commands:
        page += f".SS {escape(command['name'])}\n{escape(capital(command['summary']))}.\n"
        page += preformatted(command["page"], is_first=False)
    page += ".SH EXIT STATUS\n.TP\n0\n" + escape("it was done")
    page += "\n.TP\n1\n" + escape("a failure, or something that somebody should look at")
    page += "\n.TP\n64\n" + escape("the command line or a file is refused") + "\n"
    others = [(name, 8) for name in sorted(programs.daemons)]
    return page + see_also(others + [("phalanx-bench", 1), ("phalanx.yaml", 5)])


def capital(text):
    return text[:1].upper() + text[1:]


def bench_page(programs):
    page = header("phalanx-bench", 1, programs.version, "measures servers and engines")
    page += ".SH SYNOPSIS\n"
    page += ".br\n".join(
        f"\\fBphalanx\\-bench {name}\\fR [\\fB\\-\\-option\\fR \\fIvalue\\fR ...]\n"
        for name in BENCHMARKS
    )
    page += ".SH DESCRIPTION\n" + escape(
        "serve sends a load to any server of the HTTP API, as vllm bench serve does; engine times "
        "the steps of one engine in this process; exchange times what ranks of a host exchange."
    ) + "\n"
    for name in BENCHMARKS:
        page += f".SH OPTIONS OF {name.upper()}\n" + preformatted(programs.benchmarks[name])
    return page + see_also([("phalanx-gateway", 8), ("phalanxctl", 1)])


def file_page(programs):
    page = header("phalanx.yaml", 5, programs.version, "configuration file of Phalanx")
    page += ".SH DESCRIPTION\n" + escape(
        "YAML; the keys are the names of options without dashes. A command line goes before the "
        "file, the file before defaults. One file may serve all processes of a deployment: each "
        "takes the keys that concern it. A key that nobody knows is an error."
    ) + "\n"
    for title, scope in [
        ("KEYS OF THE DEPLOYMENT", "deployment"),
        ("KEYS OF PROCESSES", "process"),
        ("KEYS OF PHALANXCTL", "launcher"),
    ]:
        page += f".SH {title}\n"
        for option in programs.options(scope=scope):
            if option["name"] == "config":
                continue
            entry = option_entry(option, prefix="")
            if scope == "process" and len(option["daemons"]) < len(programs.daemons):
                entry = entry.rstrip("\n") + f" Of {escape(', '.join(option['daemons']))}.\n"
            page += entry
    page += ".SH NODES\n" + escape(
        "A list under the key nodes describes each host of a deployment: name, address, and "
        "optionally interface, devices (how many, or their indices) and options of that host "
        "alone. phalanxctl plan shows what a file makes of every node."
    ) + "\n"
    page += ".SH EXAMPLE\n" + preformatted(
        "model: /models/deepseek-r1-w8a8\n"
        "data-parallel-size: 16\n"
        "enable-expert-parallel: true\n"
        "keys: /etc/phalanx/keys\n"
        "nodes:\n"
        "  - name: node-a\n"
        "    address: 10.0.0.1\n"
        "    devices: 8\n"
        "  - name: node-b\n"
        "    address: 10.0.0.2\n"
        "    devices: 8"
    )
    others = [(name, 8) for name in sorted(programs.daemons)]
    return page + see_also(others + [("phalanxctl", 1)])


def pages(programs):
    """Path of each page below the folder of manuals, and its text."""
    found = {f"man8/{daemon}.8": daemon_page(programs, daemon) for daemon in programs.daemons}
    found["man1/phalanxctl.1"] = control_page(programs)
    found["man1/phalanx-bench.1"] = bench_page(programs)
    found["man5/phalanx.yaml.5"] = file_page(programs)
    return found


# MARK: Completion


def words_of(page):
    """Options that a page lists at the beginning of its lines."""
    return sorted(set(re.findall(r"^  (--[a-z0-9-]+)", page, re.MULTILINE)))


def case_of_values(options):
    """Branches that complete the value of an option."""
    text = ""
    files = []
    for option in options:
        values = option["values"]
        if values["kind"] == "choice":
            text += f"    --{option['name']})\n"
            text += f'        _phalanx_words "{" ".join(values["choices"])}"\n        return ;;\n'
        elif values["kind"] in ("text", "list"):
            files.append(option["name"])
        elif values["kind"] in ("integer", "number"):
            text += f"    --{option['name']})\n        return ;;\n"
    if files:
        text += "    " + "|".join(f"--{name}" for name in files) + ")\n"
        text += "        compopt -o default\n        return ;;\n"
    return text


def flags_of(options):
    names = []
    for option in options:
        names.append(f"--{option['name']}")
        if option["values"]["kind"] == "flag":
            names.append(f"--no-{option['name']}")
    return names


HEAD = """# bash completion of {program}. Made by scripts/manual.py of what the program says; do not edit.

_phalanx_words() {{
    local word
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("$word")
    done < <(compgen -W "$1" -- "${{COMP_WORDS[COMP_CWORD]}}")
}}

"""


def daemon_completion(programs, daemon):
    options = programs.options(daemon)
    name = "_" + daemon.replace("-", "_")
    text = HEAD.format(program=daemon)
    text += f'{name}() {{\n    COMPREPLY=()\n    case "${{COMP_WORDS[COMP_CWORD - 1]}}" in\n'
    text += case_of_values(options)
    text += '    esac\n    if [[ "${COMP_WORDS[COMP_CWORD]}" == -* ]]; then\n'
    text += f'        _phalanx_words "{" ".join(flags_of(options) + ["--help", "--version"])}"\n'
    text += f"    else\n        compopt -o default\n    fi\n}}\n\ncomplete -F {name} {daemon}\n"
    return text


def command_completion(program, commands, values):
    """Of a program whose first word is a command.

    `commands` has the words of each; `values` completes the value of the option before.
    """
    name = "_" + program.replace("-", "_")
    text = HEAD.format(program=program)
    text += f"{name}() {{\n    COMPREPLY=()\n"
    text += "    if ((COMP_CWORD == 1)); then\n"
    text += f'        _phalanx_words "{" ".join(commands)} --help --version"\n        return\n    fi\n'
    text += '    case "${COMP_WORDS[COMP_CWORD - 1]}" in\n' + values + "    esac\n"
    text += '    case "${COMP_WORDS[1]}" in\n'
    for command, words in commands.items():
        text += f'    {command})\n        _phalanx_words "{" ".join(words)}" ;;\n'
    text += '    esac\n    if [[ ${#COMPREPLY[@]} -eq 0 && "${COMP_WORDS[COMP_CWORD]}" != -* ]]; then\n'
    text += f"        compopt -o default\n    fi\n}}\n\ncomplete -F {name} {program}\n"
    return text


def control_completion(programs):
    names = [command["name"] for command in programs.commands]
    everything = flags_of(programs.options())
    commands = {}
    for command in programs.commands:
        words = set(words_of(command["page"]))
        words |= set(re.findall(r"--[a-z][a-z0-9-]*", command["arguments"]))
        if command["name"] in ("plan", "serve", "doctor"):
            words |= set(everything)
        if command["name"] == "help":
            words |= set(names)
        else:
            words.add("--help")
        commands[command["name"]] = sorted(words)
    values = '    --preflight)\n        _phalanx_words "coordinator gateway worker"\n        return ;;\n'
    values += '    --preflight-refuse)\n        _phalanx_words "error warning never"\n        return ;;\n'
    values += '    --rotate)\n        _phalanx_words "coordinator worker gateway operator"\n        return ;;\n'
    return command_completion("phalanxctl", commands, values + case_of_values(programs.options()))


def bench_completion(programs):
    commands = {name: words_of(page) + ["--help"] for name, page in programs.benchmarks.items()}
    return command_completion("phalanx-bench", commands, "")


def completions(programs):
    found = {daemon: daemon_completion(programs, daemon) for daemon in programs.daemons}
    found["phalanxctl"] = control_completion(programs)
    found["phalanx-bench"] = bench_completion(programs)
    return found


def main(arguments):
    kinds = {"man": pages, "completion": completions}
    if len(arguments) != 3 or arguments[0] not in kinds:
        sys.exit(__doc__)
    kind, programs, out = arguments
    for path, text in kinds[kind](Programs(programs)).items():
        place = os.path.join(out, path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])

#!/usr/bin/env python3
"""Compares the instructions of kernels with Tests/KernelCounts/counts.tsv.

usage: count-instructions.py PROGRAM OBJECTS [--update]

call   instructions of one call of a kernel, counted by callgrind in PROGRAM. callgrind does not
       know AVX-512, so that the reference and AVX2 run; their loops are those of AVX-512.
loop   instructions of a product's inner loop for one unit of depth, as OBJECTS has it: the only
       count for AVX-512. spill: how many of them touch the stack, where sums belong in registers.

More than the committed count and the tolerance fails; fewer is a reason to run with --update.
"""
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE = os.path.join(ROOT, "Tests", "KernelCounts", "counts.tsv")
TOLERANCE = 0.02
ROWS = (1, 4, 8, 12)
# Function, the instruction that multiplies, and how many of them one row takes a unit of depth.
AVX512_LOOPS = (
    ("product_i8", "vpdpbusd", 2),
    ("dot_bf16", "vdpbf16ps", 2),
    ("product_wide", "vfmadd", 4),
    ("product_bf16", "vfmadd", 4),
    ("product_f32", "vfmadd", 2),
)


def counted_calls(program):
    """{(kind, name, level): instructions} of the calls that PROGRAM names."""
    with tempfile.TemporaryDirectory() as folder:
        # This valgrind may not read the compiler's debug information, and needs none.
        stripped = os.path.join(folder, "kernel-counts")
        subprocess.run(["objcopy", "--strip-debug", program, stripped], check=True)
        out = os.path.join(folder, "out")
        run = subprocess.run(
            ["valgrind", "--tool=callgrind", "--toggle-collect=measured",
             "--dump-after=measured", "--callgrind-out-file=" + out, stripped],
            capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit("count-instructions: valgrind failed:\n" + run.stderr)
        counts = {}
        for number, line in enumerate(run.stdout.splitlines(), 1):
            name, level = line.split()
            with open(f"{out}.{number}") as dump:
                total = re.search(r"^totals: (\d+)", dump.read(), re.M)
            counts["call", name, level] = int(total.group(1))
        return counts


def loops(listing):
    """Bodies of a function's loops: what lies between a jump backwards and its target."""
    for at, (address, text) in enumerate(listing):
        jump = re.match(r"j\w+\s+([0-9a-f]+)\b", text)
        if not jump or not int(jump.group(1), 16) <= address:
            continue
        target = int(jump.group(1), 16)
        yield [line for where, line in listing[:at + 1] if where >= target]


def inner_loop(listing, operation):
    """The smallest loop among those that multiply the most: what the depth runs through."""
    bodies = [(sum(line.startswith(operation) for line in body), -len(body), body)
              for body in loops(listing)]
    return max(bodies, default=(0, 0, []))


def disassembly(path):
    """{function: [(address, instruction)]} of an object file."""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path],
                          capture_output=True, text=True, check=True).stdout
    functions, current = {}, []
    for line in text.splitlines():
        head = re.match(r"[0-9a-f]+ <(.+)>:$", line)
        body = re.match(r"\s*([0-9a-f]+):\s+(\S.*)", line)
        if head:
            current = functions.setdefault(head.group(1), [])
        elif body:
            current.append((int(body.group(1), 16), body.group(2).strip()))
    return functions


def counted_loops(objects):
    if os.uname().machine != "x86_64":
        return {}
    functions = disassembly(os.path.join(objects, "ck_avx512_panel.c.o"))
    counts = {}
    for name, operation, in_row in AVX512_LOOPS:
        for rows in ROWS:
            listing = functions.get(f"{name}_{rows}")
            if not listing:
                sys.exit(f"count-instructions: there is no function {name}_{rows}")
            found, _, body = inner_loop(listing, operation)
            units = found / (in_row * rows)
            if units < 1:
                sys.exit(f"count-instructions: {name}_{rows} has no loop of {operation}")
            stack = sum(bool(re.search(r"\(%r[sb]p\b", line)) for line in body)
            counts["loop", f"{name}.{rows}", "avx512"] = round(len(body) / units, 2)
            counts["spill", f"{name}.{rows}", "avx512"] = stack
    return counts


def committed():
    with open(TABLE) as table:
        rows = [line.split() for line in table if not line.startswith("#")]
    return {(kind, name, level): float(count) for kind, name, level, count in rows}


def update(counts):
    with open(TABLE, "w") as table:
        table.write("# Made by scripts/count-instructions.sh --update; x86-64.\n")
        for (kind, name, level), count in counts.items():
            table.write(f"{kind}\t{name}\t{level}\t{count:.10g}\n")


def text(count):
    return "-" if count is None else f"{count:,.10g}"


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--update"]
    program, objects = arguments
    counts = counted_calls(program) | counted_loops(objects)
    if "--update" in sys.argv:
        return update(counts)
    failures = 0
    print(f"{'kind':6}{'kernel':32}{'level':11}{'instructions':>13}{'committed':>13}  change")
    thresholds = committed()
    for key in list(counts) + [key for key in thresholds if key not in counts]:
        found, limit = counts.get(key), thresholds.get(key)
        if found is None or limit is None:
            verdict = "not counted here" if found is None else "NOT COMMITTED"
            # Without AVX2 only the reference can run.
            failures += limit is None
        else:
            change = (found - limit) / limit if limit else float(found > 0)
            verdict = f"{change:+7.1%}"
            if change > TOLERANCE:
                verdict += "  MORE THAN COMMITTED"
                failures += 1
            elif change < -TOLERANCE:
                verdict += "  fewer: commit the new count"
        kind, name, level = key
        print(f"{kind:6}{name:32}{level:11}{text(found):>13}{text(limit):>13}  {verdict}")
    if failures:
        sys.exit(f"count-instructions: {failures} of {len(counts)} counts are above the table, or "
                 "not in it; scripts/count-instructions.sh --update writes it anew")
    print(f"{len(counts)} counts are within {TOLERANCE:.0%} of Tests/KernelCounts/counts.tsv")


main()

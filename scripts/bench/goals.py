"""The goals of the engine, as ratios of figures that were taken side by side."""
from .figures import Goal, ratios
from .serving import METRICS, PERCENTILES

# A W8A8 checkpoint, whose head is BF16; and the BF16 one made W8A8 at load, head and all, which is
# what llama.cpp's Q8_0 does to it.
W8A8 = "Phalanx W8A8"
W8A8_LOADED = "Phalanx W8A8 at load"
VARIANTS = (W8A8, W8A8_LOADED)
BF16 = "Phalanx BF16"
LLAMA_Q8 = "llama.cpp Q8_0"
LLAMA_BF16 = "llama.cpp BF16"


def per_unit(rounds, factor):
    return {number: value * factor for number, value in rounds.items()}


def goals(figures, systems, sizes, context):
    """All goals, for every number of threads that was measured; `sizes` are the checkpoints'."""
    peers = [system.name for system in systems if system.is_peer]
    result = []
    for bench, judge in (("decode", decode), ("prefill", prefill)):
        for threads in sorted({key[1] for key in figures.values if key[0] == bench}):
            for name in VARIANTS:
                result += judge(figures, peers, sizes, context, threads, name)
            if bench == "decode":
                result.append(Goal(
                    f"decode, batch 1, BF16, {threads_text(threads)}: times llama.cpp BF16",
                    against(figures, "decode", threads, 1, BF16, LLAMA_BF16), 1.5,
                    note=LLAMA_BF16))
    for name in VARIANTS:
        result += serve(figures, peers, name)
    return result


def against(figures, bench, threads, column, name, other):
    return ratios(figures.of(bench, threads, column, name),
                  figures.of(bench, threads, column, other) if other else {})


def threads_text(threads):
    return f"{threads} thread" + ("s" if threads > 1 else "")


def decode(figures, peers, sizes, context, threads, name):
    where, kind = threads_text(threads), name.removeprefix("Phalanx ")
    result = [
        Goal(f"decode, batch 1, {kind}, {where}: times llama.cpp Q8_0",
             against(figures, "decode", threads, 1, name, LLAMA_Q8), 1.7, note=LLAMA_Q8)]
    if kind in sizes:
        gigabytes = 1e-9 * sizes[kind].bytes_per_token(context)
        read = per_unit(figures.of("decode", threads, 1, name), gigabytes)
        result.append(Goal(
            f"decode, batch 1, {kind}, {where}: share of the byte roofline",
            ratios(read, figures.of("limits", threads, "read", "limits")), 0.8,
            note=f"{gigabytes:.3f} GB a token as stored"))
    for batch, least in ((8, 2.5), (32, 3)):
        best = figures.best("decode", threads, batch, peers)
        result.append(Goal(
            f"decode, batch {batch}, {kind}, {where}: times the best peer",
            against(figures, "decode", threads, batch, name, best), least, note=best or ""))
    return result


def prefill(figures, peers, sizes, _, threads, name):
    where, kind = threads_text(threads), name.removeprefix("Phalanx ")
    best = figures.best("prefill", threads, 512, peers)
    result = [Goal(f"prefill of 512, {kind}, {where}: times the best peer",
                   against(figures, "prefill", threads, 512, name, best), 2, note=best or "")]
    if kind in sizes:
        peak = figures.of("limits", threads, "vnni", "limits")
        for every, text in ((False, ""), (True, ", had every token a row of the vocabulary")):
            operations = 1e-9 * sizes[kind].prefill_operations(512, every) / 512
            done = per_unit(figures.of("prefill", threads, 512, name), operations)
            result.append(Goal(
                f"prefill of 512, {kind}, {where}: share of the VNNI peak{text}",
                ratios(done, peak), 0.6, note=f"{operations:.3f} GOP a token"))
    return result


def serve(figures, peers, name):
    """The best peer is the one with the highest output when all requests come at once."""
    benches = sorted({key[:2] for key in figures.values if key[0].startswith("serve ")})
    result, kind = [], name.removeprefix("Phalanx ")
    saturated = next((key for key in benches if key[0] == "serve inf/s"), None)
    if not saturated:
        return result
    best = figures.best(*saturated, "output tok/s", peers)
    result.append(Goal(
        f"serving, all at once, {kind}: output tokens/s, times the best peer",
        against(figures, *saturated, "output tok/s", name, best), 3, note=best or ""))
    for bench, threads in benches:
        for metric in METRICS:
            worst = worst_percentile(figures, bench, threads, metric, name, best)
            result.append(Goal(
                f"{bench}, {kind}: {metric.upper()} of the best peer's, at the worst percentile",
                worst[1], 1, less=True, note=f"{best}, p{worst[0]}" if worst[0] else best or ""))
    return result


def worst_percentile(figures, bench, threads, metric, name, best):
    """(percentile, ratios) where Phalanx stands worst against the peer."""
    worst = (None, [])
    for percentile in PERCENTILES:
        values = against(figures, bench, threads, f"p{percentile} {metric}", name, best)
        middle = sorted(values)[len(values) // 2] if values else None
        if middle is not None and (worst[0] is None or middle > worst[2]):
            worst = (percentile, values, middle)
    return worst[:2]

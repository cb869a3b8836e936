"""The arithmetic and the tables: medians, spreads, ratios round by round, goals."""
import statistics


class Figures:
    """Every measured value, under (bench, threads, column) and system, in the order of rounds."""

    def __init__(self):
        self.values = {}
        self.samples = []

    def add(self, bench, threads, column, system, value, round_number, others):
        self.values.setdefault((bench, threads, column), {}).setdefault(system, {})[
            round_number] = value
        self.samples.append({
            "bench": bench, "threads": threads, "column": column, "system": system,
            "round": round_number, "value": value, "others_share": round(others, 3)})

    def of(self, bench, threads, column, system):
        """{round: value}; empty where nothing was measured."""
        return self.values.get((bench, threads, column), {}).get(system, {})

    def median(self, bench, threads, column, system):
        rounds = self.of(bench, threads, column, system)
        return statistics.median(rounds.values()) if rounds else None

    def systems(self, bench, threads):
        names = []
        for (a_bench, a_threads, _), by_system in self.values.items():
            if (a_bench, a_threads) == (bench, threads):
                names += [name for name in by_system if name not in names]
        return names

    def best(self, bench, threads, column, systems):
        """The system with the highest median, or None where none of them was measured."""
        medians = {name: self.median(bench, threads, column, name) for name in systems}
        medians = {name: value for name, value in medians.items() if value is not None}
        return max(medians, key=medians.get) if medians else None


def ratios(left, right):
    """Quotients of the rounds that both have: only figures taken side by side are compared."""
    return [left[key] / right[key] for key in sorted(left) if right.get(key)]


def summary(values, digits=1):
    """`median (smallest-largest)`, or a dash."""
    values = list(values)
    if not values:
        return "-"
    text = f"{statistics.median(values):,.{digits}f}"
    if len(values) > 1:
        text += f" ({min(values):,.{digits}f}-{max(values):,.{digits}f})"
    return text


def table(head, rows):
    """Markdown, with columns as wide as their widest cell."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
             for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


class Goal:
    """A ratio that has to be at least `least`, or below it where `less` is set."""

    def __init__(self, text, values, least, less=False, note=""):
        self.text = text
        self.values = list(values)
        self.least = least
        self.less = less
        self.note = note

    @property
    def value(self):
        return statistics.median(self.values) if self.values else None

    @property
    def verdict(self):
        if self.value is None:
            return "not measured"
        reached = self.value < self.least if self.less else self.value >= self.least
        return "reached" if reached else "not reached"

    def row(self):
        return [self.text, ("< " if self.less else ">= ") + f"{self.least:g}",
                summary(self.values, 2), self.verdict, self.note]

    def json(self):
        return {"goal": self.text, "least": self.least, "below": self.less, "values": self.values,
                "median": self.value, "verdict": self.verdict, "note": self.note}

"""`make architectures`: the tables of docs/architectures.md, from the records of its two sweeps."""

from pathlib import Path
from typing import Any

import page
from windtunnel import records
from windtunnel.report.numbers import number

ROOTS, DOC = (Path("runs/architectures"), Path("runs/architectures_hmm")), Path("docs/architectures.md")
BASELINES = ("prior", "last-1", "last-2", "last-4", "last-8", "last-16")


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each model, with the other numbers at its best rate; then the trivial baselines."""
    rates = sorted({row["train.learning_rate"] for row in rows}, key=float)
    past = rows[0]["reach"] > 1
    head = ["model", *(f"KL at {rate}" for rate in rates), "past the horizon", "remembers", "parameters"]
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        by_rate = {row["train.learning_rate"]: row for row in rows if row["model"] == model}
        best = min(by_rate.values(), key=lambda row: row["kl_bits"])
        at_rates = [number(by_rate[rate]["kl_bits"]) if rate in by_rate else "failed" for rate in rates]
        index = rates.index(best["train.learning_rate"])
        at_rates[index] = f"**{at_rates[index]}**"
        memory = f"{'> ' if best['equivalent_memory_censored'] else ''}{best['equivalent_memory']}"
        cells = [number(best["kl_bits_past"]) if past else "", memory, f"{best['parameters']:,}"]
        lines.append([f"`{model}`", *at_rates, *cells])
    for name in BASELINES:
        gap = rows[0]["baselines"].get(name)
        if gap:
            cells = ["exact, " + ("knows the prior only" if name == "prior" else f"sees the last {name[5:]}")]
            cells += [number(gap["kl_bits"])] + [""] * (len(rates) - 1)
            lines.append([*cells, number(gap["kl_bits_past"]) if past else "", "", ""])
    return page.table(head, lines, range(1, len(head)))


def main() -> None:
    rows = [row for root in ROOTS for row in records.rows(root) if row["status"] == "done"]
    for tunnel in dict.fromkeys(row["tunnel"] for row in rows):
        page.fill(DOC, tunnel, table([row for row in rows if row["tunnel"] == tunnel]))


if __name__ == "__main__":
    main()

"""`make cost`: what attention over long sequences costs, and how wrong each approximation is, into docs/cost.md.

A cell is a task, a method and a length. Each runs in a process of its own (for its peak memory) and leaves a record in
runs/cost, so that what was cut off goes on with the first cell that is missing. Every task is trained once, on exact
attention; methods differ only in how the trained model is evaluated, with outputs at every token.

Exact attention over a million tokens takes hours where nothing can be skipped. The method `top-METHOD` is then
something to compare with: outputs at 1,024 random tokens alone, with exact attention in the last layer and METHOD below
it. `top-exact` is exact throughout: below the last layer it reads every key that can matter, or takes equal keys
together (`cost_cell.Identical`).

    python scripts/cost.py                                     every cell (hours: exact attention at a million tokens)
    python scripts/cost.py --lengths 8192,32768 --tasks recall     some cells, and the page of all that there are
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cost_cell import EVERY, LENGTHS, LOWEST, METHODS, ROOT, SOME, TASKS, TOP, measure, study_of
from page import fill, table
from windtunnel import records
from windtunnel.information import kl_bits
from windtunnel.models import blocks

DOC = Path("docs/cost.md")


def flops(cell: dict[str, Any]) -> float:
    """Of a forward pass: multiplications and additions of the linear maps, and of the attention that was computed, by
    the share of blocks that was read. XLA's own analysis counts the body of a loop once.
    """
    transformer: Any = study_of(cell["task"], None).model
    n, d, c = transformer.heads, transformer.width // transformer.heads, blocks.CHUNK
    chunks = -(-cell["tokens"] // c)
    total = 2.0 * cell["tokens"] * transformer.weights
    for layer in cell["attention"]:
        read = (1 - layer["skipped_blocks"]) * chunks * (chunks + 1) / 2
        total += n * read * 4 * c**2 * d
        if layer["kernel"] == "variational":  # scores, values, gaps; assignments, sums of keys, squares and values
            cells: Any = METHODS["variational"]
            total += n * chunks * c * (14 * cells.cells * d + 4 * d**2)
        if layer["kernel"] == "hierarchical":  # scores, values, gaps
            method: Any = METHODS["hierarchical"]
            levels = next(m for m in range(1, 64) if method.fanout**m * method.near >= chunks)
            total += n * chunks * c * 6 * d * levels * (method.fanout - 1) * method.near
    return total


def compare(cell: dict[str, Any]) -> dict[str, Any]:
    """The KL (bits) of a cell's predictions against those of exact attention, where both are there: in the whole model,
    or else in the last layer alone, on the states that the cell's method computes below it.
    """
    task, method, tokens = cell["task"], cell["method"], cell["tokens"]
    tops = (f"{TOP}exact", f"{TOP}{method}") if tokens > EVERY else ()
    of = {name: ROOT / f"{task}-{name}-{tokens}.npz" for name in (method, "exact", *tops)}
    for against in ("exact", *tops):
        if of[method].exists() and of[against].exists():
            gap = kl_bits(*(np.load(of[name])["log_q"] for name in (against, method)))
            return {"mean": float(gap.mean()), "worst": float(gap.max()), "in_last_layer": against == f"{TOP}{method}"}
    return {}


def exponent(cells: list[dict[str, Any]], what: str) -> str:
    """The slope of log time, or of FLOPs, against log length, with its 95 % interval from three lengths on."""
    if len(cells) < 2:
        return "–"
    x, y = np.log([[cell["tokens"], cell[what]] for cell in cells]).T
    slope, offset = np.polyfit(x, y, 1)
    if len(cells) < 3:
        return f"{slope:.2f}"
    from scipy.stats import t

    error = np.sqrt(np.sum((y - slope * x - offset) ** 2) / (len(x) - 2) / np.sum((x - x.mean()) ** 2))
    return f"{slope:.2f} ± {t.ppf(0.975, len(x) - 2) * error:.2f}"


def hours(cells: list[dict[str, Any]], tokens: int) -> float:
    """Of CPU time that a longer cell would take, by the exponent between the two longest of these."""
    (x, a), (y, b) = [(cell["tokens"], cell["cpu_seconds"]) for cell in cells[-2:]]
    return b * (tokens / y) ** (np.log(b / a) / np.log(y / x)) / 3600


def page() -> str:
    """The tables of exponents, of every cell's cost, and of how wrong it is."""
    cells = [cell for path in ROOT.glob("*-*-*.json") if (cell := records.read_json(path))["method"] in METHODS]
    cells.sort(key=lambda cell: (list(TASKS).index(cell["task"]), list(METHODS).index(cell["method"]), cell["tokens"]))
    for cell in cells:
        cell["flops"] = flops(cell)
    slopes, costs, errors = [], [], []
    for task in TASKS:
        for method in METHODS:
            own = [cell for cell in cells if (cell["task"], cell["method"]) == (task, method)]
            why = sorted({layer["kernel"] for cell in own for layer in cell["attention"] if "(not " in layer["kernel"]})
            if own:
                lengths = f"{own[0]['tokens']:,} to {own[-1]['tokens']:,}"
                measured = [] if why else [exponent(own, "flops"), exponent(own, "cpu_seconds")]
                slopes.append([task, method, *(measured or ["–", "–"]), lengths, "; ".join(why)])
            if why:
                continue
            for cell in own:
                costs.append(cost_row(cell))
                errors.append(error_row(cell))
            if method == "exact" and len(own) > 1:
                missing = [tokens for tokens in LENGTHS if tokens > own[-1]["tokens"]]
                costs += [
                    [task, method, f"{tokens:,}", f"not run: ≈ {hours(own, tokens):.2g} h", *"––––"]
                    for tokens in missing
                ]
    head = ["task", "method", "exponent of FLOPs", "of CPU time", "tokens", "fell back to exact attention"]
    of_costs = ["task", "method", "tokens", "CPU s", "CPU µs a token", "GFLOP", "memory, GB", "resident, GB"]
    of_errors = ["task", "method", "tokens", "KL to exact attention, bits", "worst query", "compared",
                 "KL to the truth, bits", "floor of who sees the last w", "missed mass: rigorous bound",
                 "expected (prior tail)", "gap estimated, nats", "audited: mean", "bound, 95 %", "worst"]  # fmt: skip
    load = max((cell["load"] for cell in cells), default=0.0)
    return "\n\n".join([
        f"One process at a time, jax {jax.__version__}; load average up to {load:.0f}, so time is CPU time.",
        table(head, slopes, (2, 3)),
        "**What it costs**", table(of_costs, costs, range(2, 8)),
        "**How wrong it is, and what it says of that**", table(of_errors, errors, (2, 3, 4, 6, 8, 9, 10, 11, 12, 13)),
    ])  # fmt: skip


def cost_row(cell: dict[str, Any]) -> list[str]:
    return [
        cell["task"], cell["method"], f"{cell['tokens']:,}", f"{cell['cpu_seconds']:.1f}",
        f"{1e6 * cell['cpu_seconds'] / cell['tokens']:.0f}", f"{cell['flops'] / 1e9:,.0f}",
        f"{cell['peak_bytes'] / 1e9:.2f}", f"{cell['resident_bytes'] / 1e9:.2f}",
    ]  # fmt: skip


def error_row(cell: dict[str, Any]) -> list[str]:
    """Of several layers the worst is shown."""
    apart, layers = compare(cell), cell["attention"]
    numbers = [layer.get("certificates", {}) for layer in layers]

    def most(name: str) -> str:
        values = [number[name] for number in numbers if number.get(name) is not None]
        return f"{max(values):.1e}" if values else "–"

    bounds = [layer["skipped_mass_bound"] for layer in layers]
    rigorous = max(bounds) if all(bound is not None for bound in bounds) else None
    against = "–"
    if apart and cell["method"] != "exact":
        against = "all" if cell["tokens"] <= EVERY else f"{SOME:,}" + (", last layer" if apart["in_last_layer"] else "")
    floors = [(w, max(bits, 0.0)) for w, bits in cell["floor_bits"].items()]
    above = sum(bits > LOWEST for _, bits in floors)  # and the first that is not
    return [
        cell["task"], cell["method"], f"{cell['tokens']:,}",
        *([f"{apart['mean']:.1e}", f"{apart['worst']:.1e}"] if against != "–" else ["–", "–"]), against,
        f"{cell['kl_truth_bits']:.1e}", ", ".join(f"{w}: {bits:.0e}" for w, bits in floors[: above + 1]),
        "–" if rigorous is None else "vacuous" if rigorous > 0.5 else f"{rigorous:.1e}",
        most("prior_tail_mean"), most("gap_estimate_mean"),
        most("audit_missed_mean"), most("audit_missed_bound"), most("audit_missed_worst"),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)))
    parser.add_argument("--steps", type=int, help="of training, instead of the preset's: for a trial")
    parser.add_argument("--cell", nargs=3, metavar=("TASK", "METHOD", "TOKENS"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    ROOT.mkdir(parents=True, exist_ok=True)
    if asked.cell:
        task, method, tokens = asked.cell
        cell = measure(task, method, int(tokens), asked.steps)
        records.write_json(ROOT / f"{task}-{method}-{tokens}.json", cell)
        print(json.dumps(cell))
        return
    for tokens in map(int, asked.lengths.split(",")):
        for task in asked.tasks.split(","):
            for method in asked.methods.split(","):
                if (ROOT / f"{task}-{method}-{tokens}.json").exists():
                    continue
                steps = [] if asked.steps is None else ["--steps", str(asked.steps)]
                command = [sys.executable, __file__, *steps, "--cell", task, method, str(tokens)]
                if subprocess.run(command, check=False).returncode:
                    print(f"{task} {method} {tokens}: failed; goes on with the next", file=sys.stderr, flush=True)
                fill(DOC, "cost", page())
    fill(DOC, "cost", page())


if __name__ == "__main__":
    main()

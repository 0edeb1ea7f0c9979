"""`make block`: what the numbers of the block `bayesian_attention` do, into docs/bayesian-attention.md: python
scripts/block.py [--minutes 60]

The sweep `balance` (the model's β against the data's), then the block and each of its parts on four tunnels, cell by
cell, the most telling first. What does not begin within so many minutes is a row `not run`; what is done is not run
again.
"""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import page
from windtunnel import records
from windtunnel.records.groups import Group, groups
from windtunnel.records.statistics import Interval
from windtunnel.report.numbers import lengths, number, with_interval

RUNS, DOC, MINUTES = Path("runs/block"), Path("docs/bayesian-attention.md"), 60.0
BALANCE = Path("runs/balance")
TAILS = [0.5, 1.0, 1.5, 2.0, 4.0]
TUNNELS = {  # how each is typed, small enough for a laptop
    "recall": ["tunnel=recall", "evaluate.reach=8"],
    "die": ["tunnel=die", "evaluate.reach=16"],
    "hmm_far": ["tunnel=hmm_far", "evaluate.reach=16"],
    "mixture_conflict": ["tunnel=mixture_conflict", "model=small", "evaluate.reach=16"],
}
THREE, ONE = "0,1,2", "0"
CONVERGENCE = "bayesian_attention.convergence={max_iterations: 100, tolerance: 1e-4}"


def prior(beta: float, scale: float) -> list[str]:
    params = f"bayesian_attention.prior_params={{beta: {beta}, scale: {scale}}}"
    return ["bayesian_attention.prior_type=generalized_gaussian", params]


ROWS = {  # what the block says, as it is typed, and from which seeds
    "nothing: the preset": ([], THREE),
    "β 1.5, scale 0.1": (prior(1.5, 0.1), THREE),
    "β 0.5, scale 0.1": (prior(0.5, 0.1), THREE),
    "β 0.5, scale 1": (prior(0.5, 1), THREE),
    "uniform": (["bayesian_attention.prior_type=uniform"], THREE),
    "100 iterations, 1e-4": ([CONVERGENCE], THREE),
    "dimension 256": (["bayesian_attention.hypothesis_space.dimension=256"], ONE),
    "all of it": (["+bayesian_attention=default"], ONE),
}
ORDER = ["nothing: the preset", "β 1.5, scale 0.1", "all of it", "β 0.5, scale 0.1", "uniform", "β 0.5, scale 1",
         "100 iterations, 1e-4", "dimension 256"]  # fmt: skip
HEAD = ["the block says", "seeds", "KL in range", "KL past", "headroom past", "holds to", "verdict", "seconds"]


def cell(tunnel: str, row: str) -> tuple[Path, list[str]]:
    """Where the studies of a cell are, and the command that makes them."""
    runs = RUNS / tunnel / str(list(ROWS).index(row))
    typed, seeds = ROWS[row]
    words = ["windtunnel", "run", "-m", *TUNNELS[tunnel], *typed, f"seed={seeds}"]
    return runs, [*words, "evaluate.examples=32", "evaluate.most_examples=128", f"runs={runs}"]


def train(until: float) -> None:
    if time.monotonic() < until:
        subprocess.run(["windtunnel", "run", "+sweep=balance"], check=False)
    for row in ORDER:
        for tunnel in TUNNELS:
            if time.monotonic() < until:
                subprocess.run(cell(tunnel, row)[1], check=False)


def done(root: Path) -> list[records.Json]:
    return [row for row in records.rows(root) if row["status"] == "done"] if (root / "sweep.json").exists() else []


def line(tunnel: str, row: str) -> list[str]:
    root = next(iter(cell(tunnel, row)[0].glob("multirun-*")), None)
    rows = done(root) if root else []
    if not rows:
        return [row, "", *page.not_run(len(HEAD) - 2)]
    (group,) = groups(rows, ["tunnel"])
    return [
        row,
        str(len(rows)),
        with_interval(group.interval("kl_bits")),
        with_interval(group.interval("kl_bits_past")),
        number(group.interval("headroom_bits_past").mean),
        lengths(group, "extrapolation_ratio"),
        group.verdict,
        f"{np.mean([study['train_seconds'] for study in rows]):.0f}",
    ]


def tails() -> dict[tuple[float, float], Group]:
    """The studies of `balance` by (the data's β, the model's β)."""
    by = groups(done(BALANCE), ["tunnel.prior.beta", "position.beta"])
    return {(float(group.key["tunnel.prior.beta"]), float(group.key["position.beta"])): group for group in by}


def square(cells: dict[tuple[float, float], Group], metric: str) -> str:
    head = ["data's β \\ model's β", *[f"{beta:g}" for beta in TAILS], "headroom past", "verdict at the data's β"]
    table = []
    for data in TAILS:
        own = cells[data, data]
        kls = [with_interval(cells[data, model].interval(metric)) for model in TAILS]
        kls[TAILS.index(data)] = f"**{kls[TAILS.index(data)]}**"
        table.append([f"{data:g}", *kls, number(own.interval("headroom_bits_past").mean), own.verdict])
    return page.table(head, table, range(1, 7))


def jump(study: records.Json) -> float:
    """The largest KL in the second half of training ÷ the smallest before it: 1 where KL never rises."""
    losses = [row["kl_bits"] for row in records.read_lines(BALANCE / study["study_id"] / "train.jsonl")]
    least = np.minimum.accumulate(losses)
    half = len(losses) // 2
    return float(np.max(np.asarray(losses)[half:] / least[half - 1 : -1]))


def stability(cells: dict[tuple[float, float], Group]) -> str:
    """What a β risks where the data's tail is not known."""
    head = ["model's β", "worst KL in range", "at data's β", "worst KL past", "at data's β", "worst bin past",
            "spread over seeds", "largest jump"]  # fmt: skip
    table = []
    for model in TAILS:
        column = {data: cells[data, model] for data in TAILS}
        rows = [study for group in column.values() for study in group.done]
        worst = {metric: max(TAILS, key=lambda data, m=metric: column[data].interval(m).mean)
                 for metric in ("kl_bits", "kl_bits_past")}  # fmt: skip
        spreads = [spread(group, "kl_bits_past") for group in column.values()]
        table.append([
            f"{model:g}",
            *[part for m, data in worst.items() for part in (with_interval(column[data].interval(m)), f"{data:g}")],
            number(max(worst_bin(study) for study in rows)),
            f"{max(spreads):.2f} ×",
            f"{max(jump(study) for study in rows):.1f} ×",
        ])  # fmt: skip
    return page.table(head, table, range(1, len(head)))


def spread(group: Group, metric: str) -> float:
    values = [study[metric] for study in group.done]
    return max(values) / min(values)


def worst_bin(study: records.Json) -> float:
    curves = records.read_curves(BALANCE / study["study_id"] / "curves.npz")
    return float(np.max(curves["kl_bits"][curves["first"] > study["horizon"]]))


def answer(cells: dict[tuple[float, float], Group]) -> str:
    """In a sentence: which β risks least, and what that of the seed risks."""

    def worst(model: float, metric: str, at: list[float]) -> Interval:
        return max((cells[data, model].interval(metric) for data in at), key=lambda kl: kl.mean)

    def best(metric: str, at: list[float]) -> float:
        return min(TAILS, key=lambda model: worst(model, metric, at).mean)

    tested = [data for data in TAILS if cells[data, data].interval("headroom_bits_past").mean >= 0.1]
    inside, past = best("kl_bits", TAILS), best("kl_bits_past", tested)
    own = sum(min(TAILS, key=lambda m, d=data: cells[d, m].interval("kl_bits").mean) == data for data in TAILS)
    return (
        f"In range the best β is that of the data, in {own} of {len(TAILS)} tails. Where that is not known, β = "
        f"{inside:g} risks least there: at most {with_interval(worst(inside, 'kl_bits', TAILS))} bits, where β = 1.5 "
        f"risks {with_interval(worst(1.5, 'kl_bits', TAILS))}. Past the horizon only data of β = "
        f"{', '.join(f'{data:g}' for data in tested)} test anything (headroom of 0.1 bits or more), and there β = "
        f"{past:g} has {with_interval(worst(past, 'kl_bits_past', tested))} bits, β = 1.5 "
        f"{with_interval(worst(1.5, 'kl_bits_past', tested))}."
    )


def main() -> None:
    minutes = float(sys.argv[sys.argv.index("--minutes") + 1]) if "--minutes" in sys.argv else MINUTES
    train(time.monotonic() + 60 * minutes)
    for tunnel in TUNNELS:
        page.fill(DOC, tunnel, page.table(HEAD, [line(tunnel, row) for row in ROWS], range(1, 6)))
    if done(BALANCE):
        cells = tails()
        page.fill(DOC, "answer", answer(cells))
        page.fill(DOC, "in range", square(cells, "kl_bits"))
        page.fill(DOC, "past", square(cells, "kl_bits_past"))
        page.fill(DOC, "stability", stability(cells))


if __name__ == "__main__":
    main()

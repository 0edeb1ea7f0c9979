"""Measures: functions from the records of a sweep to an interval over seeds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from page import table
from reproduction.published import Measure, Rows
from windtunnel import records
from windtunnel.instruments.speed import Steps, learning_curve, median, speedup, steps_to_threshold
from windtunnel.records.statistics import Interval, interval
from windtunnel.report.numbers import number

THRESHOLD = 0.04  # bits; schedules are compared by the steps until KL falls to it


def named(rows: Rows, where: dict[str, str]) -> Rows:
    """The rows with these swept overrides."""
    return [row for row in rows if all(str(row.get(key)) == value for key, value in where.items())]


def over_seeds(of: Callable[[Path, dict[str, Any]], float], where: dict[str, str]) -> Measure:
    """The interval of `of` over the studies with these overrides."""

    def measure(root: Path, rows: Rows) -> Interval | None:
        selected = named(rows, where)
        return interval([of(root, row) for row in selected]) if selected else None

    return measure


def column(name: str, **where: str) -> Measure:
    """A column of the results."""
    return over_seeds(lambda root, row: row[name], where)


def farthest(name: str, **where: str) -> Measure:
    """A curve at the longest length that was judged."""
    return over_seeds(lambda root, row: float(curves(root, row)[name][-1]), where)


def recovered(beta: str) -> Measure:
    """The relative error of the learned β."""
    truth = float(beta)
    return over_seeds(lambda root, row: abs(row["recovered_beta"] / truth - 1), {"tunnel.prior.beta": beta})


def memorised(pool: str) -> Measure:
    """KL to the reasoner that knows the pool ÷ KL to the one that knows the prior: below 1, a model memorises."""
    return over_seeds(lambda root, row: row["kl_bits_pool"] / row["kl_bits_full"], {"tunnel.pool": pool})


def faster(schedule: str, rate: str | None = None, plain: str | None = None) -> Measure:
    """How many times as fast as plain SGD a schedule reaches the threshold: at these rates, or each at its best rate.
    None if a seed of either never reaches it.
    """

    def measure(root: Path, rows: Rows) -> Interval | None:
        def steps(em: str, rate: str) -> Steps:
            selected = named(rows, {"train.em": em, "train.learning_rate": rate})
            return {
                row["seed"]: steps_to_threshold(*learning_curve(root / row["study_id"]), THRESHOLD) for row in selected
            }

        rates: list[str] = sorted({row["train.learning_rate"] for row in rows}, key=float)

        def at(em: str, rate: str | None) -> Steps:
            return steps(em, rate) if rate else min((steps(em, candidate) for candidate in rates), key=median)

        return speedup(at("{}", plain), at(schedule, rate)) if rates else None

    return measure


def baseline(name: str, metric: str = "kl_bits") -> Callable[[dict[str, Any]], float]:
    """The metric of a baseline, as a function of a study's record."""
    return lambda row: row["baselines"][name][metric]


def curves(root: Path, row: dict[str, Any]) -> dict[str, np.ndarray]:
    return records.read_curves(root / row["study_id"] / "curves.npz")


def entropy_table(root: Path, rows: Rows, model: str) -> str:
    """Mean entropy by number of pairs seen: exact, and of one model under both supervisions (bits, mean over seeds)."""
    curves_by_supervision = {
        supervision: [curves(root, row) for row in named(rows, {"model": model, "train.supervision": supervision})]
        for supervision in ("posterior", "sample")
    }
    if not all(curves_by_supervision.values()):
        return ""
    first = curves_by_supervision["posterior"][0]
    ends = zip(first["first"], first["last"], strict=True)
    pairs = [f"{a:.0f}" if a == b else f"{a:.0f}–{b:.0f}" for a, b in ends]
    columns = [pairs, [f"{of:.3f}" for of in first["entropy_bits_exact"]]]
    for seeds in curves_by_supervision.values():
        columns.append([f"{of:.3f}" for of in np.mean([of["entropy_bits"] for of in seeds], axis=0)])
        columns.append([number(float(of)) for of in np.mean([of["entropy_gap_bits"] for of in seeds], axis=0)])
    heads = ["pair", "exact H", "H, posterior", "mean error", "H, samples", "mean error"]
    return table(heads, zip(*columns, strict=True), range(1, len(heads)))

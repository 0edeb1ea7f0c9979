"""Sweeps in two stages: every cell of a table at several rates from one seed, then fresh seeds at the better rate."""

import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from windtunnel import records

Command = Callable[..., tuple[Path, list[str]]]  # of a cell, a stage and overrides: the sweep's folder, and the words


def done(root: Path) -> list[records.Json]:
    rows = records.rows(root) if (root / "sweep.json").exists() else []
    return [row for row in rows if row["status"] == "done"]


def asked(words: list[str], rows: Iterable[str]) -> list[str]:
    """The rows that the command line names, or all, in the order of the table; SystemExit where one does not exist."""
    every = list(rows)
    if unknown := set(words) - set(every):
        raise SystemExit(f"ROW={' '.join(sorted(unknown))}: no such row; valid: {'; '.join(every)}")
    return [name for name in every if not words or name in words]


def least(rows: list[records.Json], measure: str) -> records.Json:
    """The row whose measure is the smallest; what is not known counts as large."""
    return min(rows, key=lambda row: float("inf") if row[measure] is None else row[measure])


def train(cells: Iterable[tuple[str, ...]], command: Command, seeds: list[str], measure: str, until: float) -> None:
    """Both stages of every cell, until it is too late to begin. What is done is not run again."""
    for cell in cells:
        root, words = command(*cell, "rates")
        if time.monotonic() < until:
            subprocess.run(words, check=False)
        rates = done(root)
        if rates and time.monotonic() < until:
            best = least(rates, measure)["train.learning_rate"]
            _, words = command(*cell, "seeds", f"train.learning_rate={best}", *seeds)
            subprocess.run(words, check=False)

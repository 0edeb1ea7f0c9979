"""The rows of `make monitoring`: which models are trained, good, bad and broken on purpose, as they are typed."""

import subprocess
from pathlib import Path
from typing import NamedTuple

from windtunnel import records
from windtunnel.faults import COMPUTING
from windtunnel.records.health import read_health

RUNS = Path("runs/monitoring")
STEP, INTERVAL = 250, 50  # when a fault strikes; in how many steps it is in what attention computes, if not to the end
LONG = ", 1,000 steps, a check every 5"
TWO, FIVE = "seed=0,1", "seed=0,1,2,3,4"
NAMES = ["nan_parameter", "rank_one", "nan_gradient", "logits", "cells", "bfloat16", "offset"]
RECALL = ["tunnel.bits=8", "tunnel.symbols=4", "tunnel.noise=0.05"]
SMALL = ["model.width=32", "model.hidden=64"]


class Row(NamedTuple):
    """Studies of one tunnel; `overrides` beside the sweep's, as they are typed."""

    part: str
    name: str
    overrides: list[str]

    @property
    def root(self) -> Path:
        return RUNS / self.part / self.name.replace(",", "").replace(" ", "-") / "monitors"

    def run(self) -> None:
        words = ["windtunnel", "run", "+sweep=monitors", *self.overrides, f"runs={self.root.parent}"]
        subprocess.run(words, check=False)

    @property
    def rows(self) -> list[records.Json]:
        return records.rows(self.root) if (self.root / "sweep.json").exists() else []

    @property
    def done(self) -> list[records.Json]:
        return [row for row in self.rows if row["status"] == "done"]

    @property
    def whole(self) -> bool:
        rows = self.rows
        return bool(rows) and all(row["status"] in ("done", "failed") for row in rows)

    def health(self, row: records.Json) -> list[records.Json]:
        return read_health(self.root / row["study_id"])


def models() -> list[Row]:
    """Good and bad models: the more so, the more steps and the better the rate and the prior."""
    rates, faults = "train.learning_rate=0.003,0.01,0.03,0.1,0.3", ["seed=0,1", "train.steps=500"]
    two_rates = "train.learning_rate=0.03,0.1"
    struck = [*RECALL, "position=generalized_gaussian", "monitor.fault.step=300", "monitor.fault.steps=1,0"]
    mixed = ["tunnel=mixture_conflict", "model=small", "train.batch=16", "position=bam,uniform"]
    return [
        Row("models", "recall", RECALL),
        Row("models", "die", ["tunnel=die", *SMALL, "position=uniform,alibi", "train.steps=50,200", rates, TWO]),
        *(Row("models", f"recall-{name}", [f"monitor.fault.name={name}", *struck, two_rates, *faults])
          for name in NAMES),
        Row("models", "mixture", [*mixed, "train.learning_rate=0.003,0.01,0.03", "train.steps=300,1500", TWO]),
    ]  # fmt: skip


def struck() -> list[Row]:
    """Every fault, once and lasting, with and without recovery, and none."""
    shape = [
        *RECALL,
        "position=generalized_gaussian",
        "train.learning_rate=0.05",
        "train.steps=500",
        "monitor.every=25",
    ]
    shape += ["monitor.recover.tries=0,3", FIVE]
    mixed = ["tunnel=mixture_conflict", "model=small", "train.batch=16", "position=bam", "train.learning_rate=0.01"]
    mixed += ["train.steps=500", "monitor.every=25", "monitor.recover.tries=0,3", FIVE]

    def fault(name: str) -> list[str]:
        once = INTERVAL if name in COMPUTING else 1
        return [f"monitor.fault.name={name}", f"monitor.fault.step={STEP}", f"monitor.fault.steps={once},0"]

    often = [word for word in shape if not word.startswith(("train.steps", "monitor.every"))]
    often += ["train.steps=1000", "monitor.every=5"]
    at_half = ["monitor.fault.step=500", "monitor.fault.steps=1"]
    long = [Row("faults", f"none{LONG}", often)]
    long += [Row("faults", f"{name}{LONG}", [*often, f"monitor.fault.name={name}", *at_half]) for name in NAMES[:2]]
    return [
        Row("faults", "none", shape),
        *(Row("faults", name, [*shape, *fault(name)]) for name in NAMES),
        Row("faults", "none-mixture", mixed),
        Row("faults", "merged", [*mixed, *fault("merged")]),
        *long,
    ]


def tunnel(row: Row) -> str:
    return row.name.partition("-")[0]

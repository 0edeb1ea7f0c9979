"""`make reproduce-long`: results that need hours on two cores, one row at a time (ROW=hmm), into docs/reproduction.md.

A row trains at several rates and sizes from one seed and half the steps, then from three seeds at the best, with twins
at half of these steps, so that `undertrained` is known. What was cut off goes on where it was; finished studies are not
run again. Without a row all are run, in the order of the table.
"""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

import page
from reproduction.measures import column, curves, farthest
from stages import asked, done, least
from windtunnel import records
from windtunnel.records.groups import groups
from windtunnel.records.twins import is_twin
from windtunnel.report.numbers import number, with_interval

RUNS, DOC = Path("runs/long"), Path("docs/reproduction.md")
SEEDS = ["seed=1,2,3", "+twin=half"]
RIVALS = ("passkey-alibi", "passkey-rope")
LENGTHS = (1, 2, 8, 64, 500)  # horizons
PASSKEY = ["tunnel=recall", "prior=uniform", "tunnel.bits=24", "tunnel.symbols=32", "tunnel.noise=0.01",
           "train.batch=32", "evaluate.reach=500", "evaluate.examples=16", "evaluate.most_examples=64"]  # fmt: skip
HEAD = ["row", "published", "claimed", "chosen", "measure", "past", "verdict", "steps", "hours", "parameters"]


class Row(NamedTuple):
    """A published number, the bound that counts as reproduced (twice it), and how it is tried. `sizes` are swept with
    the rates; `measure` is a column of the results, of which less is better, or the distance at the longest length.
    """

    name: str
    published: str
    bound: float
    measure: str
    steps: int
    fixed: list[str]
    rates: str = "0.005,0.01,0.02"
    sizes: tuple[str, ...] = ()

    @property
    def claimed(self) -> str:
        """A rival is said to fail."""
        return f"{'≥' if self.name in RIVALS else '≤'} {self.bound:g}"

    def sweep(self, stage: str, steps: int, *more: str) -> Path:
        root = RUNS / self.name / stage
        words = ["windtunnel", "run", "-m", *self.fixed, f"train.steps={steps}", *more]
        subprocess.run([*words, f"runs={root}"], check=False)
        return root

    @property
    def best(self) -> dict[str, str]:
        """The rate and size that did best, of those that are known; passkeys are for reach."""
        found = done(folder(RUNS / self.name / "rates"))
        measure = "kl_bits_past" if self.measure == "farthest" else self.measure
        best = least(found, measure)["overrides"] if found else {}
        return {key: value for key, value in best.items() if key != "seed"}

    def train(self) -> None:
        self.sweep("rates", self.steps // 2, f"train.learning_rate={self.rates}", *self.sizes, "seed=0")
        if self.best:
            self.sweep("seeds", self.steps, *(f"{key}={value}" for key, value in self.best.items()), *SEEDS)


ROWS = [
    Row("hmm", "transformer, KL 7.5e-5", 1.5e-4, "kl_bits", 16_000, ["tunnel=hmm", "train.batch=64"],
        "0.005,0.01,0.02", ("model=deep,deeper",)),
    Row("bijection", "transformer, entropy 8e-4", 1.6e-3, "entropy_gap_bits", 12_000,
        ["tunnel=bijection", "tunnel.symbols=20"], "0.01,0.02,0.05", ("model=deep,deeper",)),
    Row("bijection-lstm", "LSTM, entropy 0.009", 0.018, "entropy_gap_bits", 4_000,
        ["tunnel=bijection", "tunnel.symbols=20"], "0.01,0.02,0.05", ("model=lstm_narrow,lstm",)),
    Row("samples", "on samples as on the posterior, KL 4.7e-4", 9.4e-4, "kl_bits", 16_000,
        ["tunnel=bijection", "tunnel.symbols=20", "train.supervision=sample"], "0.01,0.02,0.05"),
    Row("bind-ssd", "Mamba, accuracy 0.978", 0.044, "tv", 12_000,
        ["tunnel=recall", "train.horizon=32", "train.batch=16", "evaluate.reach=4", "model=ssd", "model.width=54",
         "model.head=27"], "0.01,0.02,0.05", ("model.states=128,256",)),
    Row("passkey-own", "accuracy 1.00 at 500 horizons", 0.05, "farthest", 8_000, [*PASSKEY, "position=uniform"],
        sizes=("model.softmax=plain,scalable_outside",)),
    Row("passkey-bam", "accuracy 1.00 at 500 horizons", 0.05, "farthest", 8_000,
        [*PASSKEY, "position=bam"], sizes=("position.start=alibi,uniform",
                                           "model.softmax=plain,scalable_outside,scalable_inside")),
    Row("passkey-alibi", "accuracy ≤ 0.04 at 500 horizons", 0.5, "farthest", 8_000, [*PASSKEY, "position=alibi"],
        sizes=("model.softmax=plain,scalable_outside",)),
    Row("passkey-rope", "accuracy ≤ 0.04 at 500 horizons", 0.5, "farthest", 8_000, [*PASSKEY, "position=rope"],
        sizes=("model.softmax=plain,scalable_outside",)),
]  # fmt: skip


def folder(root: Path) -> Path:
    """The sweep inside: a multirun is named by what is swept."""
    return next(iter(sorted(root.glob("multirun-*"))), root)


def line(row: Row) -> list[str]:
    root = folder(RUNS / row.name / "seeds")
    found = [study for study in done(root) if study["steps"] == row.steps]
    if not found:
        return [row.name, row.published, row.claimed, *page.not_run(len(HEAD) - 3)]
    (group,) = groups([study for study in records.rows(root) if study["steps"] == row.steps], ["tunnel"])
    chosen = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in row.best.items())
    hours = sum(study["train_seconds"] for study in done(root)) / 3600
    past = with_interval(group.interval("kl_bits_past")) if found[0]["kl_bits_past"] is not None else ""
    value = (farthest("tv") if row.measure == "farthest" else column(row.measure))(root, found)
    assert value is not None  # there is a study
    return [row.name, row.published, row.claimed, chosen, with_interval(value), past,
            group.verdict, f"{row.steps:,}", f"{hours:.1f}", f"{found[0]['parameters']:,}"]  # fmt: skip


def accuracy(name: str) -> np.ndarray | None:
    """How often the right value is drawn at each of the lengths: 1 less the total variation distance."""
    root = folder(RUNS / name / "seeds")
    found = [study for study in done(root) if not is_twin(study)]
    if not found:
        return None
    read = [curves(root, study) for study in found]
    ends = read[0]["last"] / found[0]["horizon"]
    at = [int(np.argmin(np.abs(np.log(ends / length)))) for length in LENGTHS]
    return 1 - np.mean([curve["tv"][at] for curve in read], axis=0)


def by_length() -> str:
    """Accuracies by length, and the seed's "25 times the accuracy of the best before": of the best prior over the best
    published rival. Mean over seeds.
    """
    own = {row.name: accuracy(row.name) for row in ROWS if row.name.startswith("passkey")}
    head, body = ["accuracy at a length, in horizons", *map(str, LENGTHS)], []
    for name, of in own.items():
        body.append([name, *(map(number, of) if of is not None else page.not_run(len(LENGTHS)))])
    best = [of for name, of in own.items() if name not in RIVALS and of is not None]
    rivals = [of for name, of in own.items() if name in RIVALS and of is not None]
    known = best and len(rivals) == len(RIVALS)
    over = map(number, np.max(best, axis=0) / np.max(rivals, axis=0)) if known else page.not_run(len(LENGTHS))
    body.append(["best prior over best rival (the seed says 25)", *over])
    return page.table(head, body, range(1, len(head)))


def main() -> None:
    wanted = asked([word for word in sys.argv[1:] if word != "--fill"], [row.name for row in ROWS])
    for row in ROWS:
        if "--fill" not in sys.argv and row.name in wanted:
            row.train()
    page.fill(DOC, "long", page.table(HEAD, [line(row) for row in ROWS], [2, 4, 5, 7, 8, 9]))
    page.fill(DOC, "lengths", by_length())


if __name__ == "__main__":
    main()

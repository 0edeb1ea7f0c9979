"""`make binding`: run `+sweep=binding` model by model, then fill docs/architectures.md: python scripts/binding.py
[--minutes 90] [row …]

A negative claim on an architecture needs a grid of its rates and of its memory: state spaces of 8 to 128 states, gated
units in one wide layer or three, at equal parameters. What does not begin within so many minutes is a row `not run`.
Rows that are named (`make binding ROW="gru"`) are run alone.
"""

import argparse
import time
from pathlib import Path

import page
from stages import asked, done, train
from windtunnel import records
from windtunnel.records.groups import groups
from windtunnel.records.twins import is_twin
from windtunnel.report.numbers import number, with_interval

RUNS, DOC, MINUTES = Path("runs/binding"), Path("docs/architectures.md"), 90.0
RATES, SEEDS = "train.learning_rate=0.005,0.01,0.02,0.05", ["seed=1,2,3,4,5", "+twin=half"]


def dual(states: int, width: int) -> list[str]:
    """A state-space dual of four heads."""
    return ["model=ssd", f"model.width={width}", f"model.head={width // 2}", f"model.states={states}"]


# How much a layer remembers, in numbers, is what a row is about; the widths make parameters equal.
CELLS = {
    "ssd, 8 states": dual(8, 72),
    "ssd, 64 states": dual(64, 62),
    "narrow": ["model=narrow"],
    "gru": ["model=gru_narrow"],
    "ssd, 128 states": dual(128, 54),
    "ssd, 32 states": dual(32, 68),
    "ssd, 16 states": dual(16, 70),
    "gru, one layer": ["model=gru_narrow", "model.layers=1", "model.width=126"],
    "ssm, 8 states": ["model=ssm_narrow"],
    "lstm": ["model=lstm_narrow"],
    "lstm, one layer": ["model=lstm_narrow", "model.layers=1", "model.width=109"],
    "ssm, 64 states": ["model=ssm_narrow", "model.states=64", "model.width=59"],
}
HEAD = ["model", "remembers by layer", "rate", "KL in range", "KL past", "remembers like the last", "verdict",
        "parameters"]  # fmt: skip
ORDER = ["narrow", *(f"ssd, {n} states" for n in (8, 16, 32, 64, 128)), "ssm, 8 states", "ssm, 64 states",
         "gru", "gru, one layer", "lstm", "lstm, one layer"]  # fmt: skip


def command(name: str, stage: str, *overrides: str) -> tuple[Path, list[str]]:
    runs = RUNS / name.replace(", ", "-").replace(" ", "-") / stage
    own = [RATES, "train.steps=1500"] if stage == "rates" else []
    return runs / "binding", ["windtunnel", "run", "+sweep=binding", *CELLS[name], *own, *overrides, f"runs={runs}"]


def numbers_kept(model: records.Json) -> str:
    """How many numbers a layer hands on from token to token; attention hands on all that it has seen."""
    channels = 2 * model["width"]
    sizes = {"ssd": channels * model.get("states", 0), "ssm": channels * model.get("states", 0),
             "gru": model["width"], "lstm": 2 * model["width"], "transformer": None}  # fmt: skip
    size = sizes[model["name"]]
    return "everything" if size is None else f"{size:,}"


def line(name: str) -> list[str]:
    root, _ = command(name, "seeds")
    rows = [row for row in done(root) if not is_twin(row)]
    if not rows:
        return [name, *page.not_run(len(HEAD) - 1)]
    (group,) = groups([row for row in records.rows(root) if not is_twin(row)], ["tunnel"])
    windows = sorted({row["equivalent_memory"] for row in rows})
    memory = f"{windows[0]} to {windows[-1]}" if len(windows) > 1 else f"{windows[0]}"
    if any(row["equivalent_memory_censored"] for row in rows):
        memory = f"> {windows[-1]}"
    intervals = [with_interval(group.interval(which)) for which in ("kl_bits", "kl_bits_past")]
    return [name, numbers_kept(rows[0]["study"]["model"]), f"{rows[0]['train.learning_rate']:g}", *intervals, memory,
            group.verdict, f"{rows[0]['parameters']:,}"]  # fmt: skip


def exact() -> str:
    """What exact reasoners that see less are off, in range and past it."""
    rows = [row for name in CELLS for row in done(command(name, "seeds")[0])]
    if not rows:
        return "Not run."
    gaps = rows[0]["baselines"]
    windows = [name for name in gaps if name.startswith("last-")]
    body = [["exact, sees the last " + name[5:], number(gaps[name]["kl_bits"]), number(gaps[name]["kl_bits_past"])]
            for name in windows]  # fmt: skip
    return page.table(["reasoner", "KL in range", "KL past"], body, [1, 2])


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("rows", nargs="*")
    words.add_argument("--minutes", type=float, default=MINUTES)
    given = words.parse_args()
    cells = [(name,) for name in asked(given.rows, CELLS)]
    train(cells, command, SEEDS, "kl_bits", time.monotonic() + 60 * given.minutes)
    table = page.table(HEAD, [line(name) for name in ORDER], [1, 2, 3, 4, 5, 7])
    page.fill(DOC, "binding", f"{table}\n\n{exact()}")


if __name__ == "__main__":
    main()

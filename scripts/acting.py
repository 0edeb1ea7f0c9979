"""`make acting`: run `+sweep=acting` row by row, probe what is trained, then fill docs/acting.md and draw its pictures:
python scripts/acting.py [--minutes 90]

A row is a question about acting on predictions, each from five seeds. What does not begin within so many minutes is a
row `not run`; what is done is not run again. The rows that matter most come first.
"""

import functools
import operator
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import acting_figures
import page
from windtunnel import records
from windtunnel.records.statistics import interval, mean_interval
from windtunnel.report.numbers import number, with_interval

RUNS, DOC, MINUTES = Path("runs/acting"), Path("docs/acting.md"), 90.0
FIVE = "seed=0,1,2,3,4"
REWARD = ["tunnel=bandit", "train.horizon=20", "train.objective=reward"]
STEPS = (10, 20, 40, 80, 160, 320)  # of models that are worse, from one seed each


class Row(NamedTuple):
    """Overrides of the sweep, from these seeds."""

    name: str
    overrides: list[str]
    seeds: str = FIVE

    @property
    def root(self) -> Path:
        return RUNS / self.name.replace(",", "").replace(" ", "-") / "acting"

    def run(self) -> None:
        words = ["windtunnel", "run", "+sweep=acting", *self.overrides, self.seeds, f"runs={self.root.parent}"]
        subprocess.run(words, check=False)

    @property
    def done(self) -> list[records.Json]:
        rows = records.rows(self.root) if (self.root / "sweep.json").exists() else []
        return [row for row in rows if row["status"] == "done"]

    @property
    def whole(self) -> bool:
        return (self.root / "sweep.json").exists() and len(self.done) == len(records.rows(self.root))

    @property
    def probes(self) -> list[records.Json]:
        """The records of the instrument `acting`."""
        paths = [self.root / study["study_id"] / "probe.json" for study in self.done]
        return [of for path in paths if path.exists() and (of := records.read_json(path).get("acting"))]

    def probe(self) -> None:
        if self.done and len(self.probes) < len(self.done):
            subprocess.run(["windtunnel", "probe", str(self.root), "acting"], check=False)


TWO = Row("two arms", ["tunnel=bandit"])
ARMS = [TWO, Row("five arms", ["tunnel=bandit_five"])]
AGENT = Row("by reward", REWARD)
WATCHING = Row("by prediction", ["tunnel=bandit", "train.horizon=20"])  # beside the agent, at its horizon
WORSE = [Row(f"{steps} steps", ["tunnel=bandit", f"train.steps={steps}"], "seed=0") for steps in STEPS]
EVEN = Row("even behaviour", ["tunnel=bandit", "tunnel.evenness=1000"])
INFORMED = Row("informed behaviour", ["tunnel=bandit_informed"])
SECOND = Row("second target", ["tunnel=bandit", "+term=reward"])
DRAWN = Row("by reward, drawn", [*REWARD, "train.supervision=sample"])
ROWS = [*ARMS, AGENT, WATCHING, *WORSE, INFORMED, EVEN, SECOND, DRAWN]


def train(until: float) -> None:
    for row in ROWS:
        if time.monotonic() < until and not row.whole:
            row.run()
        row.probe()


def over(probes: list[records.Json], *path: Any) -> list[Any]:
    """A number of every record."""
    return [functools.reduce(operator.getitem, path, probe) for probe in probes]


def positive(probes: list[records.Json], *path: Any) -> str:
    """Its mean and 95 % interval over seeds, on its logarithm."""
    return with_interval(interval(over(probes, *path)))


def signed(probes: list[records.Json], *more: Any, path: tuple[Any, ...] = ()) -> str:
    """The same for what may be negative."""
    return between(mean_interval(over(probes, *path, *more)))


def between(of: Any, digits: int = 3) -> str:
    mean, low, high = (f"{value:.{digits}f}".replace("-", "−") for value in of[:3])
    return f"{mean} [{low}, {high}]" if of.n > 2 else mean


def table(rows: list[Row], columns: dict[str, Any]) -> str:
    """A line for each row: a column is a function of its records."""
    lines = []
    for row in rows:
        cells = [column(row.probes) for column in columns.values()] if row.probes else []
        lines.append([row.name, *(cells or page.not_run(len(columns)))])
    return page.table(["row", *columns], lines, range(1, len(columns) + 1))


def verdicts(probes: list[records.Json]) -> str:
    kinds = over(probes, "verdict")
    return "; ".join(f"{kinds.count(kind)} × {kind}" for kind in dict.fromkeys(kinds))


def acting() -> str:
    columns = {
        "KL passive": lambda of: positive(of, "kl_bits_passive", "mean"),
        "KL on policy": lambda of: positive(of, "kl_bits", "mean"),
        "headroom": lambda of: number(of[0]["headroom_bits"]),
        "gap to Thompson": lambda of: signed(of, "gap", "mean"),
        "2 SE": lambda of: number(2 * max(over(of, "gap", "se"))),
        "5 % is": lambda of: number(0.05 * of[0]["regret"]["thompson"]["mean"]),
        "verdict": verdicts,
    }
    return table([*ARMS, EVEN, INFORMED, SECOND], columns)


def regrets() -> str:
    head = ["arms", "who", "regret", "likeliest arm", "arms left", "best left"]
    lines = []
    for row in ARMS:
        if not row.probes:
            lines.append([row.name, *page.not_run(5)])
            continue
        exact = row.probes[0]
        for who, likeliest in (("model", "model's likeliest"), ("thompson", "likeliest"), ("greedy", None),
                               ("optimal", None), ("uniform", None)):  # fmt: skip
            if who not in exact["regret"]:
                continue
            again = [of["never_again"].get(who) for of in row.probes]
            shares = [f"{np.mean([of[name] for of in again]):.3f}" if again[0] else "" for name in ("half", "best")]
            cells = [signed(row.probes, "regret", name, "mean") if name else "" for name in (who, likeliest)]
            if who != "model":  # the same worlds for all seeds
                cells = [cell.split(" ")[0] for cell in cells]
            lines.append([row.name, who, *cells, *shares])
    return page.table(head, lines, range(2, len(head)))


def bounds() -> str:
    columns = {
        "KL on policy": lambda of: positive(of, "kl_bits", "mean"),
        "|gap|": lambda of: number(float(np.mean(np.abs(over(of, "gap", "mean"))))),
        "E TV·ΔQ": lambda of: positive(of, "bounds", "variation"),
        "visits known": lambda of: positive(of, "bounds", "visited"),
        "guaranteed (3)": lambda of: positive(of, "bounds", "guaranteed"),
        "Pinsker": lambda of: positive(of, "bounds", "pinsker"),
    }
    rows = [*WORSE, TWO, EVEN]
    first = next((row.probes[0] for row in (TWO, *rows) if row.probes), None)
    if first is None:
        return "Not run."
    known = first["bounds"]
    words = (
        f"A gap of 5 % of Thompson's regret is guaranteed up to {number(known['enough_bits'])} bits on policy before "
        f"each pull. Exact Thompson sampling comes to some counts {known['coverage']:.0f} times as often as the "
        "behaviour of the data does"
    )
    if EVEN.probes:
        words += f" (under even behaviour {number(EVEN.probes[0]['bounds']['coverage'])} times)"
    return f"{words}.\n\n{table(rows, columns)}"


def agents() -> str:
    columns = {
        "regret above optimum": lambda of: signed(of, "optimal", "gap", "mean"),
        "share of optimum": lambda of: f"{np.mean(over(of, 'optimal', 'gap', 'mean')) / optimum(of):.1%}",
        "likeliest arm's": lambda of: signed(above(of), "above"),
        "KL from optimal policy": lambda of: positive(of, "optimal", "kl_bits", "mean"),
        "KL to posterior": lambda of: positive(of, "kl_bits", "mean"),
    }
    exact = next((row.probes[0]["regret"] for row in (AGENT, WATCHING) if row.probes), None)
    words = "" if exact is None else "Exact regrets of 20 pulls: " + ", ".join(
        f"{name} {exact[name]['mean']:.3f}" for name in ("optimal", "greedy", "likeliest", "thompson", "uniform")
    ) + ".\n\n"  # fmt: skip
    return words + table([AGENT, DRAWN, WATCHING], columns)


def optimum(probes: list[records.Json]) -> float:
    return probes[0]["regret"]["optimal"]["mean"]


def above(probes: list[records.Json]) -> list[records.Json]:
    return [{"above": of["regret"]["model's likeliest"]["mean"] - optimum(probes)} for of in probes]


def states() -> str:
    asked = [(what, of) for what in ("counts", "means", "belief") for of in ("trained", "untrained")]
    asked.append(("counts", "shuffled"))
    columns = {f"{what}, {of}": functools.partial(signed, path=("state", what, of)) for what, of in asked}
    return table([AGENT, WATCHING, *ARMS], columns)


def experts() -> str:
    columns = {
        "KL passive": lambda of: positive(of, "kl_bits_passive", "mean"),
        "KL on policy, own choices as interventions": lambda of: positive(of, "kl_bits", "mean"),
        "as the expert's": lambda of: positive(of, "kl_bits_deluded", "mean"),
        "regret": lambda of: signed(of, "regret", "model", "mean"),
        "exact, deluded": lambda of: f"{deluded(of):.3f}" if deluded(of) else "",
        "exact, not deluded": lambda of: f"{of[0]['regret']['thompson']['mean']:.3f}",
    }
    return table([INFORMED, TWO], columns)


def deluded(probes: list[records.Json]) -> float | None:
    return probes[0]["regret"].get("deluded", {"mean": None})["mean"]


def targets() -> str:
    columns = {
        "KL of P(best), passive": lambda of: positive(of, "kl_bits_passive", "mean"),
        "KL of next rewards": lambda of: positive(of, "rewards", "kl_bits", "mean") if of[0]["rewards"] else "",
        "chance": lambda of: number(of[0]["rewards"]["chance_bits"]) if of[0]["rewards"] else "",
    }
    return table([TWO, SECOND], columns)


def main() -> None:
    minutes = float(sys.argv[sys.argv.index("--minutes") + 1]) if "--minutes" in sys.argv else MINUTES
    train(time.monotonic() + 60 * minutes)
    tables = {"acting": acting, "regrets": regrets, "bounds": bounds, "agents": agents, "states": states,
              "experts": experts, "targets": targets}  # fmt: skip
    for name, text in tables.items():
        page.fill(DOC, name, text())
    acting_figures.regret({row.name: row.probes for row in [*ARMS, AGENT]})
    acting_figures.bound([of for row in [*WORSE, TWO, EVEN] for of in row.probes])


if __name__ == "__main__":
    main()

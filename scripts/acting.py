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

import matplotlib
import numpy as np

import page
from windtunnel import guarantee, records
from windtunnel.records.statistics import interval, mean_interval
from windtunnel.report.numbers import number, with_interval
from windtunnel.report.style import COLOURS, INK, MARKERS, SOFT

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RUNS, DOC, FIGURES, MINUTES = Path("runs/acting"), Path("docs/acting.md"), Path("docs/acting"), 90.0
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
        lines.append([row.name, *(cells or [page.NOT_RUN, *[""] * (len(columns) - 1)])])
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
            lines.append([row.name, page.NOT_RUN, *[""] * 4])
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


def draw() -> None:
    """Regret curves of two and five arms; bound and truth over models from bad to good."""
    FIGURES.mkdir(exist_ok=True)
    exact = {"optimal": "-", "greedy": ":", "thompson": "--"}
    drawn = [row for row in [*ARMS, AGENT] if row.probes]
    if drawn:
        figure, panels = plt.subplots(1, len(drawn), figsize=(3.4 * len(drawn), 3.4), layout="constrained")
        for panel, row in zip(np.atleast_1d(panels), drawn, strict=True):
            curves = [of["curves"]["regret"] for of in row.probes]
            pulls = np.arange(1, len(curves[0]["model"]) + 1)
            for name, dashes in exact.items():
                if name in curves[0]:
                    panel.plot(
                        pulls, curves[0][name], color=INK if name == "optimal" else SOFT, ls=dashes, lw=1.4, label=name
                    )
            for index, curve in enumerate(curves):
                own = {"color": COLOURS[0], "lw": 0.9, "marker": MARKERS[0], "ms": 3, "markevery": (index, 6)}
                panel.plot(pulls, curve["model"], label="model" if not index else None, **own)
            panel.set(title=row.name, xlabel="pull", xlim=(1, None), ylim=(0, None))
        np.atleast_1d(panels)[0].set_ylabel("regret up to it (rewards)")
        np.atleast_1d(panels)[0].legend(frameon=False)
        save(figure, "regret")
    points = [(of["kl_bits"]["mean"], abs(of["gap"]["mean"]), of["bounds"]) for row in [*WORSE, TWO, EVEN]
              for of in row.probes]  # fmt: skip
    if points:
        figure, axes = plt.subplots(figsize=(5.2, 3.8), layout="constrained")
        kl, gap = np.asarray([point[0] for point in points]), np.asarray([point[1] for point in points])
        horizon, thompson = TWO_PULLS, guarantee_regret()
        grid = np.geomspace(min(kl.min(), 1e-6), max(kl.max(), 1), 100)
        lines = [guarantee.from_kl(horizon, np.full(horizon, bits * np.log(2))) for bits in grid]
        axes.plot(grid, [line["pinsker"] for line in lines], color=SOFT, ls=":", label="Pinsker, from KL alone")
        axes.plot(grid, [line["guaranteed"] for line in lines], color=INK, label="guaranteed (3), from KL alone")
        axes.plot(kl, [point[2]["visited"] for point in points], ls="", marker="s", ms=4, mfc="none", color=COLOURS[2],
                  label="visits known")  # fmt: skip
        axes.plot(kl, gap, ls="", marker="o", ms=4, color=COLOURS[0], label="true |gap|")
        axes.axhline(thompson["uniform"] - thompson["thompson"], color=COLOURS[1], lw=0.9, label="chance − Thompson")
        axes.axhline(0.05 * thompson["thompson"], color=COLOURS[1], lw=0.9, ls="--", label="5 % of Thompson's regret")
        axes.set(xscale="log", yscale="log", xlabel="KL on policy (bits)", ylabel="gap to exact Thompson (rewards)")
        axes.legend(frameon=False, fontsize=7)
        save(figure, "bound")


TWO_PULLS = 40


def guarantee_regret() -> dict[str, float]:
    from windtunnel.regret import regrets

    return {name: float(of_t.sum()) for name, of_t in regrets(TWO_PULLS).items()}


def save(figure: Any, name: str) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(FIGURES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    minutes = float(sys.argv[sys.argv.index("--minutes") + 1]) if "--minutes" in sys.argv else MINUTES
    train(time.monotonic() + 60 * minutes)
    tables = {"acting": acting, "regrets": regrets, "bounds": bounds, "agents": agents, "states": states,
              "experts": experts, "targets": targets}  # fmt: skip
    for name, text in tables.items():
        page.fill(DOC, name, text())
    draw()


if __name__ == "__main__":
    main()

"""The pictures of docs/acting.md, from the records of the instrument `acting`."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from windtunnel import guarantee, records
from windtunnel.regret import regrets
from windtunnel.report.style import COLOURS, INK, MARKERS, SOFT

matplotlib.use("Agg")
from matplotlib import pyplot as plt

FIGURES, TWO_PULLS = Path("docs/acting"), 40


def regret(rows: dict[str, list[records.Json]]) -> None:
    """Regret up to each pull of the models of a row, by its name, beside exact agents."""
    exact = {"optimal": "-", "greedy": ":", "thompson": "--"}
    drawn = {name: probes for name, probes in rows.items() if probes}
    if not drawn:
        return
    figure, panels = plt.subplots(1, len(drawn), figsize=(3.4 * len(drawn), 3.4), layout="constrained")
    for panel, (row, probes) in zip(np.atleast_1d(panels), drawn.items(), strict=True):
        regrets_of = [of["curves"]["regret"] for of in probes]
        pulls = np.arange(1, len(regrets_of[0]["model"]) + 1)
        for name, dashes in exact.items():
            if name in regrets_of[0]:
                panel.plot(
                    pulls, regrets_of[0][name], color=INK if name == "optimal" else SOFT, ls=dashes, lw=1.4, label=name
                )
        for index, curve in enumerate(regrets_of):
            own = {"color": COLOURS[0], "lw": 0.9, "marker": MARKERS[0], "ms": 3, "markevery": (index, 6)}
            panel.plot(pulls, curve["model"], label="model" if not index else None, **own)
        panel.set(title=row, xlabel="pull", xlim=(1, None), ylim=(0, None))
    np.atleast_1d(panels)[0].set_ylabel("regret up to it (rewards)")
    np.atleast_1d(panels)[0].legend(frameon=False)
    save(figure, "regret")


def bound(probes: list[records.Json]) -> None:
    """The gap to exact Thompson sampling and its bounds against KL on policy, over models from bad to good."""
    points = [(of["kl_bits"]["mean"], abs(of["gap"]["mean"]), of["bounds"]) for of in probes]
    if not points:
        return
    figure, axes = plt.subplots(figsize=(5.2, 3.8), layout="constrained")
    kl, gap = np.asarray([point[0] for point in points]), np.asarray([point[1] for point in points])
    horizon, known = TWO_PULLS, {name: float(of_t.sum()) for name, of_t in regrets(TWO_PULLS).items()}
    grid = np.geomspace(min(kl.min(), 1e-6), max(kl.max(), 1), 100)
    lines = [guarantee.from_kl(horizon, np.full(horizon, bits * np.log(2))) for bits in grid]
    axes.plot(grid, [line["pinsker"] for line in lines], color=SOFT, ls=":", label="Pinsker, from KL alone")
    axes.plot(grid, [line["guaranteed"] for line in lines], color=INK, label="guaranteed (3), from KL alone")
    axes.plot(kl, [point[2]["visited"] for point in points], ls="", marker="s", ms=4, mfc="none", color=COLOURS[2],
              label="visits known")  # fmt: skip
    axes.plot(kl, gap, ls="", marker="o", ms=4, color=COLOURS[0], label="true |gap|")
    axes.axhline(known["uniform"] - known["thompson"], color=COLOURS[1], lw=0.9, label="chance − Thompson")
    axes.axhline(0.05 * known["thompson"], color=COLOURS[1], lw=0.9, ls="--", label="5 % of Thompson's regret")
    axes.set(xscale="log", yscale="log", xlabel="KL on policy (bits)", ylabel="gap to exact Thompson (rewards)")
    axes.legend(frameon=False, fontsize=7)
    save(figure, "bound")


def save(figure: Any, name: str) -> None:
    FIGURES.mkdir(exist_ok=True)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(FIGURES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)

"""The picture of what `windtunnel probe … acting` recorded: regret over pulls, beside that of exact agents."""

from pathlib import Path
from typing import Any

import numpy as np

from windtunnel.records.groups import Group
from windtunnel.report.figures import drawable
from windtunnel.report.geometry import dig, probes
from windtunnel.report.style import INK, SOFT, Picture, label, look

# Exact agents and their dashes; chance would be far above.
EXACT = {"optimal": "-", "greedy": ":", "thompson": "--", "deluded": "-."}


def regret_picture(root: Path, groups: list[Group]) -> Picture | None:
    """A line for each group, the mean over its seeds, and the exact agents of the first."""
    lines = []
    for index, group in enumerate(drawable(groups)):
        curves = [dig(probe, "acting", "curves", "regret") for probe in probes(root, group)]
        curves = [curve for curve in curves if isinstance(dig(curve, "model"), list)]
        if curves:
            lines.append((index, group, curves))
    if not lines:
        return None

    def draw(figure: Any, wide: bool) -> None:
        axes = figure.subplots()
        exact = lines[0][2][0]
        pulls = np.arange(1, len(exact["model"]) + 1)
        for name, dashes in EXACT.items():
            if isinstance(exact.get(name), list):
                axes.plot(pulls, exact[name], color=INK if name == "optimal" else SOFT, ls=dashes, lw=1.4, label=name)
        for index, group, curves in lines:
            mean = np.mean([curve["model"] for curve in curves], axis=0)
            every = max(1, len(mean) // 8)
            at = np.arange(1, len(mean) + 1)
            axes.plot(at, mean, label=label(group.name), markevery=(index % every, every), **{**look(index), "lw": 1.2})
        axes.set(xlabel="pull", ylabel="regret up to it (rewards)", xlim=(1, None), ylim=(0, None))
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2 if max(map(len, labels)) > 15 else 3)

    return Picture(
        "regret",
        "Acting on predictions: regret",
        "Each model takes an arm as often as it says that the arm is the best. Lines without markers are exact agents. "
        "To lose as much as exact Thompson sampling is no proof of a posterior: greedy play, which knows no more, may "
        "lose less.",
        draw,
    )

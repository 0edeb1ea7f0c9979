"""The picture of beliefs over three hidden states: a triangle whose corners are certainty."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from windtunnel.records.groups import Group
from windtunnel.report.figures import drawable
from windtunnel.report.geometry import dig, probes
from windtunnel.report.style import FAINT, INK, Picture, label

CORNERS = np.asarray([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(0.75)]])
SHADES = np.asarray([[0.85, 0.15, 0.15], [0.1, 0.6, 0.2], [0.15, 0.25, 0.85]])  # one for each state; beliefs mix them
GROUPS = 3  # of which decoded beliefs are drawn, beside the exact ones


def simplex_picture(root: Path, groups: list[Group]) -> Picture | None:
    """Exact beliefs, and those that are read from the first seed of each group; None where nobody looked for them."""
    panels: list[tuple[str, Any, Any]] = []
    for group in drawable(groups):
        for probe in probes(root, group)[:1]:
            simplex, best = dig(probe, "beliefs", "simplex"), dig(probe, "beliefs", "best")
            layer = next((of for of in dig(probe, "beliefs", "layers") or [] if dig(of, "depth") == best), None)
            if simplex and layer:
                exact, decoded = np.asarray(simplex["exact"]), np.asarray(simplex["decoded"])
                panels = panels or [("exact", exact, exact)]
                title = f"{label(group.name)}: R² {layer['r2']:.3f} (untrained {layer['untrained']:.3f})"
                panels.append((title, exact, decoded))
    panels = panels[: 1 + GROUPS]
    if not panels:
        return None
    columns = 2 if len(panels) in (2, 4) else len(panels)
    rows = -(-len(panels) // columns)

    def draw(figure: Any, wide: bool) -> None:
        for axes, (title, exact, where) in zip(
            figure.subplots(rows, columns, squeeze=False).flat, panels, strict=False
        ):
            around = CORNERS[[0, 1, 2, 0]]
            axes.plot(around[:, 0], around[:, 1], color=FAINT, lw=0.8)
            axes.scatter(*(where @ CORNERS).T, c=np.clip(exact @ SHADES, 0, 1), s=3, lw=0)
            axes.set_title(title, fontsize=8, color=INK)
            axes.set(xlim=(-0.08, 1.08), ylim=(-0.08, 0.95), aspect="equal")
            axes.axis("off")

    return Picture(
        "beliefs",
        "Beliefs over the hidden state",
        "A point is what is believed after some symbols; a corner is certainty of one state, and colours are the exact "
        "belief. Beside the exact beliefs, what a linear read-out of the residual states makes of them, on sequences "
        "that it was not fitted to. First seed.",
        draw,
        size=(2.2 * columns, 2.2 * rows),
    )

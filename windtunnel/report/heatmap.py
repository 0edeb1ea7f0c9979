"""The picture of a sweep over two keys: KL past the horizon, or inside it where no study was judged past it."""

import math
from typing import Any

import numpy as np

from windtunnel.records.groups import Group
from windtunnel.report.numbers import number
from windtunnel.report.style import INK, Picture, label

LEAST = 0.6  # the share of cells that must have a value


def heatmap_picture(groups: list[Group]) -> Picture | None:
    """The heatmap, if exactly two keys were swept with at least two values each."""
    keys = list(groups[0].key)
    if len(keys) != 2:
        return None
    down, across = (list(dict.fromkeys(group.key[key] for group in groups)) for key in keys)
    down = down[::-1]  # rows are drawn from the bottom up
    past = any(row.get("kl_bits_past") is not None for group in groups for row in group.done)
    metric = "kl_bits_past" if past else "kl_bits"
    kl_bits = np.full((len(down), len(across)), np.nan)
    for group in groups:
        kl_bits[down.index(group.key[keys[0]]), across.index(group.key[keys[1]])] = group.interval(metric).mean
    if min(kl_bits.shape) < 2 or np.isfinite(kl_bits).mean() < LEAST:
        return None
    tolerance = next(row["evaluate"]["tolerance"] for group in groups for row in group.done)

    def draw(figure: Any, wide: bool) -> None:
        from matplotlib.colors import LogNorm

        axes = figure.subplots()
        low, high = np.nanmin(kl_bits), np.nanmax(kl_bits)
        scale = LogNorm(max(low, 1e-7), max(high, low * 1.01, 1e-6))
        mesh = axes.pcolormesh(kl_bits, cmap="cividis", norm=scale, edgecolors="white", lw=0.5)
        for (i, j), value in np.ndenumerate(kl_bits):
            dark = math.isnan(value) or scale(value) < 0.55
            colour = (
                INK if math.isnan(value) else "#FFFFFF" if dark else "#000001"
            )  # text on a cell does not follow the page's theme
            text = "–" if math.isnan(value) else number(value)
            weight = "bold" if value <= tolerance else "normal"
            axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", color=colour, weight=weight)
        axes.set_xticks(
            np.arange(len(across)) + 0.5, list(map(label, across)), rotation=30 if max(map(len, across)) > 6 else 0
        )
        axes.set_yticks(np.arange(len(down)) + 0.5, list(map(label, down)))
        axes.set(xlabel=label(keys[1]), ylabel=label(keys[0]))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.colorbar(mesh, ax=axes, label="KL, bits")

    where = "past the horizon" if past else "inside the horizon"
    return Picture(
        "heatmap",
        f"KL {where}, over {keys[0]} and {keys[1]}",
        f"Geometric mean over seeds of the KL to the exact posterior {where}, in bits. Bold: at most "
        f"τ = {tolerance:g}. A dash: nothing finished there.",
        draw,
    )

"""Figures, by matplotlib (the extra `report`)."""

from pathlib import Path

import numpy as np

from windtunnel import records
from windtunnel.report.groups import groups, swept_keys

# Okabe & Ito's colours, told apart by all kinds of colour vision; markers tell lines apart in black and white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
BASELINES = ("last-horizon", "content-only", "position-only")
FLOOR = 1e-7  # bits: below this a curve is drawn at the floor


def kl_against_length(root: Path) -> Path:
    """KL against position ÷ horizon: a line per group with its band over seeds, exact baselines dashed.

    Returns the path of the PNG; the SVG lies beside it.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = records.rows(root)
    made = [group for group in groups(rows, swept_keys(root)) if group.done]
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    first = None
    for index, group in enumerate(made):
        curves = [records.read_curves(root / row["study_id"] / "curves.npz") for row in group.done]
        x = np.sqrt(curves[0]["first"] * curves[0]["last"].astype(float)) / group.done[0]["horizon"]
        kl = np.maximum([curve["kl_bits"] for curve in curves], FLOOR)
        colour = COLOURS[index % len(COLOURS)]
        label = ", ".join(group.key.values())
        axes.plot(
            x,
            np.exp(np.log(kl).mean(0)),
            color=colour,
            marker=MARKERS[index % len(MARKERS)],
            markevery=6,
            ms=5,
            label=label,
        )
        if len(kl) > 1:
            axes.fill_between(x, kl.min(0), kl.max(0), color=colour, alpha=0.2, lw=0)
        first = first or (x, curves[0])
    if first is not None:
        x, curves = first
        for style, name in zip(("--", ":", "-."), BASELINES, strict=True):
            if f"baseline/{name}" in curves:
                gap = np.where(curves[f"baseline/{name}"] > FLOOR, curves[f"baseline/{name}"], np.nan)
                axes.plot(x, gap, color="0.45", ls=style, lw=1.2, label=f"exact, {name}")
    tolerance = records.read_json(root / made[0].done[0]["study_id"] / "result.json")["evaluate"]["tolerance"]
    axes.axhline(tolerance, color="0.3", lw=0.8)
    axes.annotate(f"τ = {tolerance:g}", (0.01, tolerance), xycoords=("axes fraction", "data"), va="bottom", fontsize=9)
    axes.axvline(1, color="0.3", lw=0.8)
    axes.annotate(
        "horizon", (1, 0.99), xycoords=("data", "axes fraction"), rotation=90, va="top", ha="right", fontsize=9
    )
    axes.set(xscale="log", yscale="log", xlabel="position ÷ horizon", ylabel="KL(exact ‖ model), bits")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    path = root / "kl_against_length.png"
    figure.savefig(path, dpi=160)
    figure.savefig(path.with_suffix(".svg"))
    plt.close(figure)
    return path

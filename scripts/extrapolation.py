"""`make extrapolation`: docs/extrapolation.md and its figure, from the records of `+sweep=extrapolation_full`."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import page
from windtunnel import records
from windtunnel.records.groups import CENSORED, Group, gather
from windtunnel.report.numbers import lengths, number, with_interval

ROOT, DOC, FIGURE = Path("runs/extrapolation_full"), Path("docs/extrapolation.md"), Path("docs/extrapolation_full.svg")
TITLES = {
    "recall": "recall: bind",
    "urn": "urn: accumulate (two symbols)",
    "die": "die: accumulate (ten symbols)",
    "hmm_far": "hmm_far: transport",
}
EDGES = [0, 1, 2, 4, 8, 16, 32, 64, 128, 500]  # lengths ÷ horizon: in range, then octaves; the last bin is two octaves
HEAD = "position | KL in range | KL past | critical length | ratio | verdict".split(" | ")
FLOOR, CEILING = 1e-4, 3.0  # bits: the range of the figure's colours


def octaves(root: Path, rows: list[dict[str, Any]], curve: str) -> np.ndarray:
    """[octave]: the curve's mean over the bins of each octave, then the geometric mean over the studies."""
    means = []
    for row in rows:
        curves = records.read_curves(root / row["study_id"] / "curves.npz")
        last = curves["last"] / row["horizon"]
        within = [(last > low) & (last <= high) for low, high in pairwise(EDGES)]
        means.append([curves[curve][here].mean() for here in within])
    return np.exp(np.log(np.maximum(means, 1e-12)).mean(0))


def table(groups: list[Group]) -> str:
    lines = []
    for group in groups:
        if group.done:
            cells = [with_interval(group.interval("kl_bits")), with_interval(group.interval("kl_bits_past")),
                     *(lengths(group, name) for name in CENSORED), group.verdict]  # fmt: skip
            lines.append([f"`{group.key['position']}`", *cells])
    return page.table(HEAD, lines, range(1, len(HEAD) - 1))


def facts(groups: list[Group]) -> str:
    row = groups[0].done[0]
    gap = number(row["headroom_bits_past"])
    return (
        f"Horizon {row['horizon']}, judged to {row['horizon'] * row['reach']:,.0f} observations; the best reasoner "
        f"that sees less is {gap} bits off past the horizon; τ = {row['evaluate']['tolerance']:g}; "
        f"{row['parameters']:,} parameters and the position's; {row['steps']:,} steps, {seeds(groups)} seeds."
    )


def seeds(groups: list[Group]) -> str:
    counts = sorted({len(group.done) for group in groups if group.done})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def figure(root: Path, by_tunnel: dict[str, list[Group]]) -> None:
    """A panel per tunnel: a row per position, a column per octave, KL as colour and number; in bold where exact
    (≤ τ).
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import LogNorm

    shape = len(next(iter(by_tunnel.values()))) + 1
    panels, axes_all = plt.subplots(2, 2, figsize=(13, 0.72 * shape), layout="constrained")
    names = ["in range", *(f"to {edge} ×" for edge in EDGES[2:])]
    for axes, (tunnel, groups) in zip(axes_all.flat, by_tunnel.items(), strict=False):  # four at most
        done = [group for group in groups if group.done]
        values = np.asarray([octaves(root, done[0].done[:1], "headroom_bits")]
                            + [octaves(root, group.done, "kl_bits") for group in done])  # fmt: skip
        tolerance = done[0].done[0]["evaluate"]["tolerance"]
        axes.imshow(np.clip(values, FLOOR, CEILING), norm=LogNorm(FLOOR, CEILING), cmap="cividis", aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            exact = value <= tolerance and i > 0
            dark = value < 0.02
            axes.text(j, i, number(value) or "0", ha="center", va="center", fontsize=8,
                      color="white" if dark else "black", weight="bold" if exact else "normal")  # fmt: skip
        axes.axhline(0.5, color="white", lw=3)
        axes.axvline(0.5, color="white", lw=1.5)
        axes.set_yticks(range(len(values)), ["headroom", *(group.key["position"] for group in done)], fontsize=9)
        axes.set_xticks(range(len(names)), names, fontsize=8)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        title = f"{TITLES.get(tunnel, tunnel)} · KL in bits, bold: exact (τ = {tolerance:g})"
        axes.set_title(title, fontsize=10, loc="left")
    for axes in axes_all.flat[len(by_tunnel) :]:
        axes.set_axis_off()
    plt.rcParams["svg.hashsalt"] = "windtunnel"
    panels.savefig(FIGURE, metadata={"Date": None})
    plt.close(panels)


def main() -> None:
    by_tunnel: dict[str, list[Group]] = {}
    for group in gather([ROOT]):
        by_tunnel.setdefault(group.key["tunnel"], []).append(group)
    by_tunnel = {tunnel: groups for tunnel, groups in by_tunnel.items() if any(group.done for group in groups)}
    figure(ROOT, by_tunnel)
    for tunnel, groups in by_tunnel.items():
        page.fill(DOC, tunnel, f"{facts(groups)}\n\n{table(groups)}")


if __name__ == "__main__":
    main()

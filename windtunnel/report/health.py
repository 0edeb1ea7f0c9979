"""The picture of what monitors said while studies trained: each against its threshold, with what happened."""

from pathlib import Path
from typing import Any

from windtunnel.records.groups import Group
from windtunnel.records.health import read_health
from windtunnel.report.figures import drawable, legend, readable
from windtunnel.report.style import INK, SOFT, Picture, label, look

PANELS = 6  # monitors, those that fail most first
EVENTS = {"fault": "X", "alarm": "v", "recovery": "^", "given up": "s", "restored": "o"}


def health_picture(root: Path, groups: list[Group]) -> Picture | None:
    """A panel for each monitor, a line for the first seed of each group; None where nobody watched."""
    read = [(index, group, readable(read_health, root / group.done[0]["study_id"]) or [])
            for index, group in enumerate(drawable(groups))]  # fmt: skip
    watched = [(index, group, rows) for index, group, rows in read if rows]
    if not watched:
        return None
    failing: dict[str, int] = {}
    for _, _, rows in watched:
        for row in rows:
            for name, of in row["monitors"].items():
                if of["value"] is not None:
                    failing[name] = failing.get(name, 0) + (of["state"] == "fails")
    shown = sorted(failing, key=lambda name: -failing[name])[:PANELS]
    if not shown:
        return None
    columns = 2 if len(shown) > 1 else 1
    down = -(-len(shown) // columns)

    def draw(figure: Any, wide: bool) -> None:
        panels = figure.subplots(down, columns, squeeze=False, sharex=True)
        for axes in panels.flat[len(shown) :]:
            axes.set_visible(False)
        for axes, name in zip(panels.flat, shown, strict=False):
            for index, group, rows in watched:
                line(axes, name, rows, look(index), label(group.name))
            bounds = {row["monitors"][name]["threshold"] for _, _, rows in watched for row in rows
                      if name in row["monitors"]}  # fmt: skip
            for bound in bounds - {None}:
                axes.axhline(bound, color=INK, lw=0.8)
            axes.set_title(name.replace("_", " "), fontsize=9, color=INK)
            if name in ("kl_bits", "largest_logit", "order_bits", "drift_bits"):
                axes.set_yscale("log")
        for axes in panels[-1]:
            axes.set_xlabel("step")
        legend(figure, wide)

    return Picture(
        "health",
        "Monitors while training",
        "Each monitor against its threshold (the black line), first seed of each group; those that failed most come "
        "first. Crosses: a fault that was injected; triangles down: an alarm; up: a recovery.",
        draw,
        size=(4.3, 1.0 + 1.6 * down),
    )


def line(axes: Any, name: str, rows: list[dict[str, Any]], style: dict[str, Any], text: str) -> None:
    known = [(row["step"], row["monitors"][name]["value"]) for row in rows if name in row["monitors"]]
    known = [(step, value) for step, value in known if value is not None]
    axes.plot(*zip(*known, strict=True) if known else ([], []), label=text, **{**style, "lw": 1.2, "ms": 3})
    for row in rows:
        for event in row["events"]:
            if event["what"] in EVENTS and event.get("monitor", name) == name and known:
                step = event.get("step", row["step"])
                value = min(known, key=lambda pair: abs(pair[0] - row["step"]))[1]
                axes.plot([step], [value], ls="", marker=EVENTS[event["what"]], ms=6, color=SOFT)

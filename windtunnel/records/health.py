"""`health.jsonl`: one line a check of a study that is monitored, written by its training and read by everybody."""

import json
from pathlib import Path

from windtunnel.records.door import Damaged, Json, read_lines
from windtunnel.records.shapes import HEALTH

NAME = "health.jsonl"
ORDER = ("good", "warns", "fails")


def read_health(folder: Path) -> list[Json]:
    """The checks of a study, in order; none where there is no file. Raises `Damaged`."""
    path = folder / NAME
    return read_lines(path, HEALTH) if path.exists() else []


def text(rows: list[Json]) -> str:
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def worst(row: Json) -> str:
    """The worst state among a check's monitors."""
    states = [monitor["state"] for monitor in row["monitors"].values() if monitor["state"] in ORDER]
    return max(states, key=ORDER.index, default="good")


def in_words(folder: Path) -> str | None:
    """`fails: kl_bits, orthogonality`: the last check of a study; None where it has none."""
    try:
        rows = read_health(folder)
    except Damaged:
        return "damaged"
    if not rows:
        return None
    state = worst(rows[-1])
    names = [name for name, monitor in rows[-1]["monitors"].items() if monitor["state"] == state]
    return state if state == "good" else f"{state}: {', '.join(names)}"

"""Twins: the same study at half the steps, with a schedule of its own. They tell a training that was too short from a
model that cannot do better.
"""

import json
from typing import Any

Row = dict[str, Any]

STILL_FALLING = 0.8  # KL(n) below this share of KL(n/2): with twice the steps it would be lower again
MARK = "twin"  # the key of a study that was added as a twin, among its overrides


def is_twin(row: Row) -> bool:
    """Whether it is in the sweep as the twin of another, and not for its own sake."""
    return MARK in row.get("overrides", {})


def undertrained(row: Row, rows: list[Row]) -> bool | None:
    """KL(n) < 0.8 KL(n/2), in range, against its twin among the rows; None where there is none, or one is not done."""
    if row["status"] != "done" or row.get("study") is None:
        return None
    steps = row["study"].get("train", {}).get("steps")
    if not steps or steps % 2:
        return None
    wanted = _but_for_steps(row)
    for other in rows:
        same = other["status"] == "done" and other.get("study") and _but_for_steps(other) == wanted
        if same and other["study"]["train"]["steps"] * 2 == steps and other.get("evaluate") == row.get("evaluate"):
            known = row.get("kl_bits") is not None and other.get("kl_bits") is not None
            return row["kl_bits"] < STILL_FALLING * other["kl_bits"] if known else None
    return None


def _but_for_steps(row: Row) -> str:
    study = row["study"]
    return json.dumps({**study, "train": {**study.get("train", {}), "steps": None}, "evaluate": None}, sort_keys=True)

"""How fast a study learned: the step at which its KL to the exact posterior has fallen to a threshold.

Every batch is drawn fresh and scored before its update, so the learning curve is measured on held-out sequences.
"""

import math
from pathlib import Path

import numpy as np

from windtunnel import records
from windtunnel.records.statistics import Interval, interval

Steps = dict[str, float | None]  # by seed; None if the threshold was never reached

SMOOTH = 20  # steps to average over, because single batches are noisy


def learning_curve(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(step, KL in bits) of a study."""
    curve = records.read_learning_curve(folder / "train.jsonl")
    return curve["step"], curve["kl_bits"]


def steps_to_threshold(step: np.ndarray, kl_bits: np.ndarray, threshold: float) -> float | None:
    """The first step at which the mean KL of the last `SMOOTH` steps is at most the threshold; None if none is."""
    width = max(1, round(SMOOTH / max(1, step[0])))
    for end in range(width, len(step) + 1):
        if kl_bits[end - width : end].mean() <= threshold:
            return float(step[end - 1])
    return None


def typical(steps: Steps) -> str:
    """The median over seeds, or how many of them reach the threshold."""
    reached = [x for x in steps.values() if x is not None]
    return f"{np.median(reached):.0f}" if len(reached) == len(steps) else f"{len(reached)} of {len(steps)}"


def median(steps: Steps) -> float:
    """The median over seeds; a seed that never reaches the threshold counts as infinitely slow."""
    return float(np.median([math.inf if x is None else x for x in steps.values()]))


def speedup(plain: Steps, other: Steps) -> Interval | None:
    """The interval of plain ÷ other over seeds; None where a seed of either never reaches the threshold."""
    pairs = [(plain[seed], other[seed]) for seed in plain]
    ratios = [a / b for a, b in pairs if a is not None and b is not None]
    return interval(ratios) if len(ratios) == len(pairs) else None

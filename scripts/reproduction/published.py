"""Published results as inequalities, and when records reproduce them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windtunnel.records.statistics import Interval

Rows = list[dict[str, Any]]  # the studies of a sweep under one supervision
Measure = Callable[[Path, Rows], Interval | None]


@dataclass(frozen=True)
class Published:
    """A published result: `measure` is at most (or at least) `bound`, the published `value` up to a factor of two.

    `trivial` is the same measure for a reasoner that has learned nothing: a number, or a function of a study's record.
    `because` is the cause, if known, where the result is not reproduced.
    """

    what: str
    value: str
    trivial: float | Callable[[dict[str, Any]], float] | None
    measure: Measure
    bound: float
    at_most: bool = True
    because: str = ""

    def holds(self, interval: Interval | None) -> bool | None:
        """Whether the whole interval is on the published side of the bound; None if it contains the bound or is
        unknown.
        """
        ends = () if interval is None or math.isnan(interval.low) else (interval.low, interval.high)
        inside = {(end <= self.bound) if self.at_most else (end >= self.bound) for end in ends}
        return inside.pop() if len(inside) == 1 else None

    def trivial_of(self, rows: Rows) -> float | None:
        """The trivial measure. It is the same for all studies of a sweep, so it is taken from the first record."""
        if callable(self.trivial):
            return self.trivial(rows[0]) if rows else None
        return self.trivial

    def verdict(self, posterior: Interval | None, sample: Interval | None, trivial: float | None) -> str:
        if posterior is None and sample is None:
            return "not run, or never there"
        both = self.holds(posterior), self.holds(sample)
        if both == (True, True):
            verdict = "**reproduced**"
        elif True in both:
            verdict = f"**differs**: only on {'the posterior' if both[0] else 'samples'}"
        else:
            verdict = "**not**" if False in both else "**open**: the interval lies across the bound"
        if trivial is not None and "reproduced" in verdict and self.holds(Interval(trivial, trivial, trivial, 1)):
            verdict += ", and so does the trivial one"
        return f"{verdict}; {self.because}" if self.because and both != (True, True) else verdict

    @property
    def sign(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}"


@dataclass(frozen=True)
class Study:
    """A sweep, what it measures, and the published results that it tests; `paper` are the overrides for their sizes."""

    name: str
    quantity: str
    results: tuple[Published, ...]
    paper: tuple[str, ...]
    more: Callable[[Path, Rows], str] | None = None  # another table

    @property
    def sweep(self) -> str:
        return f"reproduce_{self.name}"

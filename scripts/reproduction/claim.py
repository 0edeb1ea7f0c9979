"""What a published claim is here, and when records bear it out."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windtunnel.records.statistics import Interval

Rows = list[dict[str, Any]]  # the studies of a sweep under one supervision
Measure = Callable[[Path, Rows], Interval | None]


@dataclass(frozen=True)
class Claim:
    """`measure` is at most (or at least) `bound`: what was published, give or take a factor of two.

    `trivial` is the same measure of a reasoner that has not learned anything, a number or where the records of a study
    have it; `because` says why a claim does not hold, where it does not.
    """

    what: str
    published: str
    trivial: float | Callable[[dict[str, Any]], float] | None
    measure: Measure
    bound: float
    at_most: bool = True
    because: str = ""

    def holds(self, found: Interval | None) -> bool | None:
        """Whether the whole interval is on the claimed side of the bound; None where it lies across, or is unknown."""
        ends = () if found is None or math.isnan(found.low) else (found.low, found.high)
        inside = {(end <= self.bound) if self.at_most else (end >= self.bound) for end in ends}
        return inside.pop() if len(inside) == 1 else None

    def trivial_of(self, rows: Rows) -> float | None:
        """The same of all studies of a sweep, so the first one's record has it."""
        if callable(self.trivial):
            return self.trivial(rows[0]) if rows else None
        return self.trivial

    def verdict(self, posterior: Interval | None, sample: Interval | None, trivial: float | None) -> str:
        if posterior is None and sample is None:
            return "not run, or never there"
        both = self.holds(posterior), self.holds(sample)
        if both == (True, True):
            said = "**reproduced**"
        elif True in both:
            said = f"**differs**: only on {'the posterior' if both[0] else 'samples'}"
        else:
            said = "**not**" if False in both else "**open**: the interval lies across the bound"
        if trivial is not None and "reproduced" in said and self.holds(Interval(trivial, trivial, trivial, 1)):
            said += ", and so does the trivial one"
        return f"{said}; {self.because}" if self.because and both != (True, True) else said

    @property
    def sign(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}"


@dataclass(frozen=True)
class Study:
    """A sweep, what it measures, and the claims that it tests; `paper` are the overrides to the published sizes."""

    name: str
    quantity: str
    claims: tuple[Claim, ...]
    paper: tuple[str, ...]
    more: Callable[[Path, Rows], str] | None = None  # another table

    @property
    def sweep(self) -> str:
        return f"reproduce_{self.name}"

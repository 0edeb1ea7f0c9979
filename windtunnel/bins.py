"""Which observations are scored and how they are binned: 8 bins an octave, never across the horizon."""

from functools import cache
from typing import NamedTuple

import numpy as np

PER_OCTAVE = 8
PER_BIN = 8  # observations scored per bin, or more where needed to reach SAMPLES
SAMPLES = 256  # examples × observations in a bin, at the least


class Bin(NamedTuple):
    """The observations `first` … `last`, of which those in `scored` are scored. All are numbered from 1."""

    first: int
    last: int
    scored: tuple[int, ...]


class Bins(NamedTuple):
    """The bins of a problem, in order; P observations are scored in all."""

    each: tuple[Bin, ...]
    horizon: int

    @property
    def at(self) -> np.ndarray:
        """int[P]: the scored observations as indices from 0."""
        return np.concatenate([np.asarray(b.scored) for b in self.each]) - 1

    @property
    def number_P(self) -> np.ndarray:
        """The bin of each scored observation."""
        return np.concatenate([np.full(len(b.scored), i) for i, b in enumerate(self.each)])

    @property
    def inside_P(self) -> np.ndarray:
        """Weights of the mean in range: over all observations alike, so each stands for its share of its bin."""
        shares = [(b.last - b.first + 1) / len(b.scored) * (b.last <= self.horizon) for b in self.each]
        return np.asarray(shares)[self.number_P]

    @property
    def past_P(self) -> np.ndarray:
        """Weights of the mean past the horizon: over all bins alike, so that no octave drowns the others."""
        shares = [(b.first > self.horizon) / len(b.scored) for b in self.each]
        return np.asarray(shares)[self.number_P]

    @property
    def beyond(self) -> list[int]:
        """The bins past the horizon."""
        return [i for i, b in enumerate(self.each) if b.first > self.horizon]


@cache
def bins(horizon: int, length: int, examples: int) -> Bins:
    """Bins from 1 to `length`, with an edge at the horizon. Narrow ones are joined until they hold enough samples.

    Within the horizon every observation is scored up to 64, so that the mean in range is over all of them.
    """
    octaves = np.log2(horizon)
    inside = horizon * 2 ** (-np.arange(int(np.ceil(octaves * PER_OCTAVE)), -1, -1) / PER_OCTAVE)
    beyond = horizon * 2 ** (np.arange(int(np.ceil(np.log2(length / horizon) * PER_OCTAVE)) + 1) / PER_OCTAVE)
    most = max(PER_BIN, -(-SAMPLES // examples))
    dense = horizon if horizon <= 64 else most
    each = _binned(inside, 0, horizon, dense, examples) + _binned(beyond, horizon, length, most, examples)
    return Bins(tuple(each), horizon)


def _binned(edges: np.ndarray, after: int, until: int, most: int, examples: int) -> list[Bin]:
    """Bins over (after, until] with these edges."""
    found: list[Bin] = []
    first, scored = after + 1, []
    for edge in np.minimum(np.floor(edges + 1e-9).astype(int), until):
        start = max(scored[-1] if scored else 0, first - 1)
        new = np.arange(start + 1, edge + 1)
        if len(new) > most:
            new = np.unique(np.round(np.linspace(new[0], new[-1], most)).astype(int))
        scored += [int(observation) for observation in new]
        if scored and len(scored) * examples >= SAMPLES and edge >= first:
            found.append(Bin(first, int(edge), tuple(scored)))
            first, scored = int(edge) + 1, []
    if scored or first <= until:  # what is left is too little for a bin of its own
        if found:
            last = found.pop()
            first, scored = last.first, [*last.scored, *scored]
        found.append(Bin(first, until, tuple(scored)))
    return found

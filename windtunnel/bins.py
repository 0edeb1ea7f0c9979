"""Which observations are scored and how they are binned: 8 bins an octave, never across the horizon.

Bins are set by the horizon and the length alone, not by how many sequences there are: sequences can be added, and the
bins stay what they are.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

PER_OCTAVE = 8
PER_BIN = 8  # observations scored per bin
FEWEST = 4  # observations in a bin: narrower ones are joined
SAMPLES = 256  # weighted samples in a bin, at the least: with fewer it decides nothing


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
    def inside(self) -> list[int]:
        """The bins within the horizon."""
        return [i for i, b in enumerate(self.each) if b.last <= self.horizon]

    @property
    def beyond(self) -> list[int]:
        """The bins past the horizon."""
        return [i for i, b in enumerate(self.each) if b.first > self.horizon]


@cache
def bins(horizon: int, length: int) -> Bins:
    """Bins from 1 to `length`, with an edge at the horizon. Narrow ones are joined until they hold enough observations.

    Within the horizon every observation is scored up to 64, so that the mean in range is over all of them.
    """
    octaves = np.log2(horizon)
    inside = horizon * 2 ** (-np.arange(int(np.ceil(octaves * PER_OCTAVE)), -1, -1) / PER_OCTAVE)
    beyond = horizon * 2 ** (np.arange(int(np.ceil(np.log2(length / horizon) * PER_OCTAVE)) + 1) / PER_OCTAVE)
    dense = horizon if horizon <= 64 else PER_BIN
    return Bins((*_binned(inside, 0, horizon, dense), *_binned(beyond, horizon, length, PER_BIN)), horizon)


def _binned(edges: np.ndarray, after: int, until: int, most: int) -> list[Bin]:
    """Bins over (after, until] with these edges, each with at most so many scored observations from each edge to the
    next.
    """
    binned: list[Bin] = []
    first, scored = after + 1, []
    for edge in np.minimum(np.floor(edges + 1e-9).astype(int), until):
        start = max(scored[-1] if scored else 0, first - 1)
        new = np.arange(start + 1, edge + 1)
        if len(new) > most:
            new = np.unique(np.round(np.linspace(new[0], new[-1], most)).astype(int))
        scored += [int(observation) for observation in new]
        if len(scored) >= FEWEST and edge >= first:
            binned.append(Bin(first, int(edge), tuple(scored)))
            first, scored = int(edge) + 1, []
    if scored or first <= until:  # what is left is too little for a bin of its own
        if binned:
            last = binned.pop()
            first, scored = last.first, [*last.scored, *scored]
        binned.append(Bin(first, until, tuple(scored)))
    return binned

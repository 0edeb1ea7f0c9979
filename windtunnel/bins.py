"""Which positions are scored and how they are binned: 8 bins an octave, never across the horizon."""

from typing import NamedTuple

import numpy as np

PER_OCTAVE = 8
PER_BIN = 8  # positions scored in a bin, unless more are needed for
SAMPLES = 256  # example × position samples in a bin at the least


class Bin(NamedTuple):
    """Observations `first` … `last` (from 1), of which those in `at` are scored."""

    first: int
    last: int
    at: tuple[int, ...]


def bins(horizon: int, length: int, examples: int) -> list[Bin]:
    """Bins from 1 to `length`, with an edge at the horizon. Narrow ones are joined until they hold enough samples.

    Within the horizon every position is scored up to 64, so that the mean in range is over all of them.
    """
    octaves = np.log2(horizon)
    inside = horizon * 2 ** (-np.arange(int(np.ceil(octaves * PER_OCTAVE)), -1, -1) / PER_OCTAVE)
    beyond = horizon * 2 ** (np.arange(int(np.ceil(np.log2(length / horizon) * PER_OCTAVE)) + 1) / PER_OCTAVE)
    most = max(PER_BIN, -(-SAMPLES // examples))
    dense = horizon if horizon <= 64 else most
    return _binned(inside, 0, horizon, dense, examples) + _binned(beyond, horizon, length, most, examples)


def _binned(edges: np.ndarray, after: int, until: int, most: int, examples: int) -> list[Bin]:
    """Bins over (after, until] with these edges."""
    made: list[Bin] = []
    first, at = after + 1, []
    for edge in np.minimum(np.floor(edges + 1e-9).astype(int), until):
        start = max(at[-1] if at else 0, first - 1)
        new = np.arange(start + 1, edge + 1)
        if len(new) > most:
            new = np.unique(np.round(np.linspace(new[0], new[-1], most)).astype(int))
        at += [int(position) for position in new]
        if at and len(at) * examples >= SAMPLES and edge >= first:
            made.append(Bin(first, int(edge), tuple(at)))
            first, at = int(edge) + 1, []
    if at or first <= until:  # what is left is too little for a bin of its own
        if made:
            last = made.pop()
            first, at = last.first, [*last.at, *at]
        made.append(Bin(first, until, tuple(at)))
    return made


def scored(bins: list[Bin]) -> np.ndarray:
    """int[P]: the positions that are scored, as indices from 0."""
    return np.concatenate([np.asarray(b.at) for b in bins]) - 1

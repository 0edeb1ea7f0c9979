"""`bijection`: all permutations, and all orders of keys that a lesser reasoner can't see."""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from windtunnel import tunnels
from windtunnel.verify.brute.base import Listed, normalised


class Bijection(Listed):
    """Keys and values as plain numbers, after the blanks."""

    def __init__(self, tunnel: Any, inputs: np.ndarray, outcomes: Sequence[int]):
        super().__init__(tunnel, inputs, outcomes)
        self.v = tunnel.symbols
        self.keys = [int(x) for x in inputs[0::2]]
        self.start = sum(key == 2 * self.v for key in self.keys)

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        replacement, random_start = (bool(random.integers(2)) for _ in range(2))
        pool = int(random.integers(2, 5)) if random.integers(3) == 0 else None
        symbols = int(random.integers(3, 5))
        tunnel = tunnels.Bijection(symbols=symbols, replacement=replacement, random_start=random_start, pool=pool)
        return tunnel, 4 if replacement else symbols

    def hypotheses(self) -> list[tuple[Any, Fraction]]:
        return [(pi, Fraction(1)) for pi in itertools.permutations(range(self.v))]

    def channel(self, hypothesis: Any, t: int) -> list[Fraction]:
        if t < self.start:
            return [Fraction(1)] * self.v  # a blank tells nothing
        return [Fraction(hypothesis[self.keys[t]] == v) for v in range(self.v)]

    def last(self, t: int, w: int) -> np.ndarray:
        """Over every bijection and every sequence of keys that agree with the last w pairs and the key now asked."""
        seen = range(max(self.start, t - w), t)
        slots = range(self.start, t + 1)
        sequences = itertools.product if self.tunnel.replacement else itertools.permutations
        some = {"repeat": len(slots)} if self.tunnel.replacement else {"r": len(slots)}
        weights = []
        for pi, weight in self.candidates():
            for order in sequences(range(self.v), **some):  # type: ignore[operator]
                keys = dict(zip(slots, order, strict=True))
                if keys[t] == self.keys[t] and all(
                    keys[s] == self.keys[s] and pi[keys[s]] == self.outcomes[s] for s in seen
                ):
                    weights.append((pi[keys[t]], weight))
        return normalised(weights, self.v)

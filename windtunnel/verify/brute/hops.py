"""`hops`: every pair that the cue may have come from, and every way in which all pointers may have been drawn."""

import itertools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from windtunnel import tunnels
from windtunnel.verify.brute.base import Brute, density, fraction, normalised, small_prior

OUT = -1  # a pair that is not seen


class Hops(Brute):
    """Pairs, pointers, cues and numbers of hops as plain numbers. No matrix is multiplied here: pointers are drawn."""

    static = False  # every observation asks anew

    def __init__(self, tunnel: Any, inputs: np.ndarray, outcomes: Sequence[int]):
        super().__init__(tunnel, inputs, outcomes)
        b, v = tunnel.bits, tunnel.symbols
        self.b, self.v = b, v
        self.keys, self.pointers, self.cues = (
            [tuple(row[first : first + b].tolist()) for row in inputs] for first in (0, b + v, 2 * b + v)
        )
        self.values = [int(np.argmax(row[b : b + v])) for row in inputs]
        self.hops = [round(float(row[-1])) for row in inputs]
        self.noise = fraction(tunnel.noise)
        self.density = [density(tunnel.prior, lag) for lag in range(len(inputs))]

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        bits, symbols, hops = int(random.integers(1, 3)), int(random.integers(2, 4)), int(random.integers(1, 5))
        noise = float(random.choice([0.0, 0.5, random.uniform(0, 0.5)]))
        return tunnels.Hops(bits=bits, symbols=symbols, hops=hops, noise=noise, prior=small_prior(random)), 5

    def likelihood(self, noisy: tuple, key: tuple) -> Fraction:
        result = Fraction(1)
        for a, b in zip(noisy, key, strict=True):
            result *= 1 - self.noise if a == b else self.noise
        return result

    def meant(self, noisy: tuple, i: int, candidates: Sequence[int], first: int) -> list[tuple[int, Fraction]]:
        """Each candidate and how probable it is together with the noisy key; what lies before `first` is not seen, and
        its key is any of 2^b.
        """
        weights = [(j, self.density[i - j] * self.likelihood(noisy, self.keys[j])) for j in candidates if j >= first]
        out = sum(self.density[i - j] * Fraction(1, 2**self.b) for j in candidates if j < first)
        return [*weights, (OUT, out)] if out else weights

    def ends(self, t: int, first: int = 0) -> Iterator[tuple[int, Fraction]]:
        """(the pair where the hops end, joint probability), for every start and every drawing of all pointers."""
        starts = self.meant(self.cues[t], t, range(t + 1), first)
        drawn = [self.meant(self.pointers[i], i, range(i), first) if i else [(0, Fraction(1))] for i in range(t + 1)]
        drawn = [choices if i >= first else [(OUT, Fraction(1))] for i, choices in enumerate(drawn)]
        for (start, weight), *pointers in itertools.product(starts, *drawn):
            end = start
            for _ in range(self.hops[t]):
                end = end if end == OUT else pointers[end][0]
            yield end, weight * math.prod((p for _, p in pointers), start=Fraction(1))

    def posterior(self, t: int) -> np.ndarray:
        return normalised(self.ends(t), len(self.keys))

    def predictive(self, t: int) -> np.ndarray:
        return self.last(t, t + 1)

    def last(self, t: int, w: int) -> np.ndarray:
        """Every pointer that leads out of the window leads to a pair of its own, with any value."""
        if w == 0:
            return np.full(self.v, 1 / self.v)
        pairs = []
        for end, weight in self.ends(t, max(0, t + 1 - w)):
            values = range(self.v) if end == OUT else [self.values[end]]
            pairs += [(value, weight / len(values)) for value in values]
        return normalised(pairs, self.v)

    def baselines(self, t: int, windows: dict[str, int]) -> dict[str, np.ndarray]:
        depths = [h for h in (1, 2, 4, 8, 16, 32) if h < self.tunnel.hops]
        return {**super().baselines(t, windows), **{f"hops-{h}": self.within(t, h) for h in depths}}

    def within(self, t: int, h: int) -> np.ndarray:
        """Every path of p hops, the first h by what pointers say, the others by the prior alone."""

        def paths(at: int, hop: int) -> Iterator[tuple[int, Fraction]]:
            if hop == self.hops[t]:
                yield self.values[at], Fraction(1)
                return
            if at == 0:
                steps = [(0, Fraction(1))]
            elif hop < h:
                steps = self.meant(self.pointers[at], at, range(at), 0)
            else:
                steps = [(j, self.density[at - j]) for j in range(at)]
            total = sum(weight for _, weight in steps)
            for j, weight in steps:
                for value, rest in paths(j, hop + 1):
                    yield value, weight / total * rest

        pairs = (
            (value, weight * rest)
            for start, weight in self.meant(self.cues[t], t, range(t + 1), 0)
            for value, rest in paths(start, 0)
        )
        return normalised(pairs, self.v)

    def evidence(self) -> float:
        """Every question is asked anew: a product."""
        return math.prod(float(self.predictive(t)[outcome]) for t, outcome in enumerate(self.outcomes))

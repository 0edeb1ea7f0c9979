"""`permutation`: all permutations, each with its prior and the probability of what was seen."""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from windtunnel import tunnels
from windtunnel.verify.brute.base import Listed, density, fraction, small_prior


class Permutation(Listed):
    """Keys as plain numbers; the density of the prior at every distance."""

    def __init__(self, tunnel: Any, inputs: np.ndarray, outcomes: Sequence[int]):
        super().__init__(tunnel, inputs, outcomes)
        self.v = tunnel.symbols
        self.keys = [int(x) for x in inputs[0::2]]
        self.noise = fraction(tunnel.noise)
        self.density = [density(tunnel.prior, distance) for distance in range(self.v)]

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        pool = int(random.integers(2, 5)) if random.integers(3) == 0 else None
        prior = small_prior(random)
        noise = float(random.choice([random.uniform(0, 0.5), 0.0, 0.5]))
        symbols = int(random.integers(2, 5))
        return tunnels.Permutation(symbols=symbols, noise=noise, prior=prior, pool=pool), 5

    def hypotheses(self) -> list[tuple[Any, Fraction]]:
        weighted = []
        for pi in itertools.permutations(range(self.v)):
            weight = Fraction(1)
            for i, value in enumerate(pi):
                weight *= self.density[abs(i - value)]
            weighted.append((pi, weight))
        return weighted

    def channel(self, hypothesis: Any, t: int) -> list[Fraction]:
        right = hypothesis[self.keys[t]]
        return [1 - self.noise if v == right else self.noise / (self.v - 1) for v in range(self.v)]

    def baselines(self, t: int, windows: dict[str, int]) -> dict[str, np.ndarray]:
        return super().baselines(t, {"prior": 0, **windows})

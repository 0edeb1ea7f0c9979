"""`echo`: every symbol that may have been repeated."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from windtunnel import tunnels
from windtunnel.verify.brute.base import Brute, density, fraction, normalised, small_prior


class Echo(Brute):
    """All symbols in a row, the last outcome included."""

    static = False  # every symbol repeats another anew

    def __init__(self, tunnel: Any, inputs: np.ndarray, outcomes: Sequence[int]):
        super().__init__(tunnel, inputs, outcomes)
        self.v, self.noise = tunnel.symbols, fraction(tunnel.noise)

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        noise = float(random.choice([0.0, random.uniform(0, 0.5)]))
        return tunnels.Echo(symbols=int(random.integers(2, 4)), noise=noise, prior=small_prior(random)), 6

    def posterior(self, t: int) -> np.ndarray:
        """Over the tokens, of which the first is the start."""
        joint = [(1 + s, density(self.tunnel.prior, t - 1 - s)) for s in range(t)]
        return normalised(joint or [(0, Fraction(1))], len(self.outcomes))

    def predictive(self, t: int) -> np.ndarray:
        return self.last(t, t)

    def last(self, t: int, w: int) -> np.ndarray:
        """The symbols of the window, as a sequence of their own: which is repeated, or by what chance it is none."""
        seen = self.outcomes[max(0, t - w) : t]
        lags = [density(self.tunnel.prior, len(seen) - 1 - s) for s in range(len(seen))]
        repeats = 1 - self.noise if seen else Fraction(0)
        pairs = [(symbol, repeats * lag / sum(lags)) for symbol, lag in zip(seen, lags, strict=True)]
        return normalised([*pairs, *((v, (1 - repeats) / self.v) for v in range(self.v))], self.v)

    def evidence(self) -> float:
        return math.prod(float(self.predictive(t)[outcome]) for t, outcome in enumerate(self.outcomes))

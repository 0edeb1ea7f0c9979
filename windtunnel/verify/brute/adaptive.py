"""`recall_adaptive`: every prior of the grid, and every way in which the cues may have come from the stored pairs."""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from windtunnel import tunnels
from windtunnel.priors import Grid
from windtunnel.verify.brute.base import as_probabilities, density, normalised
from windtunnel.verify.brute.recall import Recall


class RecallAdaptive(Recall):
    def __init__(self, tunnel: Any, inputs: np.ndarray, outcomes: Sequence[int]):
        # What `recall` knows of one prior is not used.
        super().__init__(
            tunnels.Recall(bits=tunnel.bits, symbols=tunnel.symbols, noise=float(tunnel.noise)), inputs, outcomes
        )
        self.tunnel = tunnel
        self.densities = [[density(prior, lag) for lag in range(len(inputs))] for prior in tunnel.prior.members]

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        bits, symbols = int(random.integers(1, 3)), int(random.integers(2, 4))
        noise = float(random.choice([0.0, 0.5, random.uniform(0, 0.5)]))
        scales = tuple(float(scale) for scale in random.uniform(0.3, 5, size=random.integers(1, 4)))
        betas = tuple(float(beta) for beta in random.uniform(0.3, 2, size=random.integers(1, 3)))
        prior = Grid(scales=scales, betas=betas)
        return tunnels.RecallAdaptive(bits=bits, symbols=symbols, noise=noise, prior=prior), 4

    def weights(self, cues: Sequence[int]) -> list[Fraction]:
        """P(g | the cues at these observations), from all the pairs that each may have come from."""
        totals = []
        for lags in self.densities:
            total = Fraction(0)
            for pairs in itertools.product(*(range(s + 1) for s in cues)):
                terms = (
                    lags[s - j] / sum(lags[: s + 1]) * self.likelihood(self.cues[s], self.keys[j])
                    for s, j in zip(cues, pairs, strict=True)
                )
                total += math.prod(terms, start=Fraction(1))
            totals.append(total)
        return [total / sum(totals) for total in totals]

    def pairs(self, t: int, weights: Sequence[Fraction]) -> list[Fraction]:
        """P(j | cue_t) for j = 0 … t, if the priors had these weights."""
        result = [Fraction(0)] * (t + 1)
        for lags, weight in zip(self.densities, weights, strict=True):
            joint = [lags[t - j] * self.likelihood(self.cues[t], self.keys[j]) for j in range(t + 1)]
            result = [old + weight * new / sum(joint) for old, new in zip(result, joint, strict=True)]
        return result

    def says(self, t: int, weights: Sequence[Fraction]) -> np.ndarray:
        return normalised(((self.values[j], p) for j, p in enumerate(self.pairs(t, weights))), self.v)

    def posterior(self, t: int) -> np.ndarray:
        return normalised(enumerate(self.pairs(t, self.weights(range(t + 1)))), len(self.keys))

    def predictive(self, t: int) -> np.ndarray:
        return self.last(t, t + 1)

    def last(self, t: int, w: int) -> np.ndarray:
        """Of a reasoner that learns the prior from the last w cues."""
        return self.says(t, self.weights(range(max(0, t + 1 - w), t + 1)))

    def baselines(self, t: int, windows: dict[str, int]) -> dict[str, np.ndarray]:
        return {
            "prior": as_probabilities([Fraction(1)] * self.v),
            "static": self.last(t, 0),
            "oracle": self.says(t, self.weights(range(len(self.cues)))),
            **{name: self.last(t, w) for name, w in windows.items()},
        }

"""Exact reasoners as plain loops over everything that could have happened. Slow, and meant to be read.

No arrays, no logarithms, no cleverness: numbers are fractions where they fit. Observations t count from 0.
"""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from windtunnel.priors import Gaussian, GeneralizedGaussian, Uniform


class Brute:
    """One sequence of a tunnel, and what can be said about it by enumeration.

    `small` makes a random small tunnel and says how many observations its brute force can bear.
    """

    static = True  # one hypothesis for the whole sequence: then its expected posterior entropy never rises
    listed = True  # hypotheses can be listed

    def __init__(self, tunnel: Any, inputs: np.ndarray, outcomes: Sequence[int]):
        self.tunnel, self.inputs, self.outcomes = tunnel, inputs, [int(outcome) for outcome in outcomes]

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        raise NotImplementedError

    def prior(self, t: int) -> np.ndarray:
        """[H]: before any evidence."""
        raise NotImplementedError

    def posterior(self, t: int) -> np.ndarray:
        """[H]: given what is seen when outcome t is predicted."""
        raise NotImplementedError

    def predictive(self, t: int) -> np.ndarray:
        """[V]"""
        raise NotImplementedError

    def baselines(self, t: int, windows: dict[str, int]) -> dict[str, np.ndarray]:
        """[V] each: `prior`, `last-w` or `cut-w` for the windows given, and whatever else the tunnel promises."""
        return {"prior": self.last(t, 0), **{name: self.last(t, w) for name, w in windows.items()}}

    def last(self, t: int, w: int) -> np.ndarray:
        """[V]: of a reasoner that has seen only the last w observations."""
        raise NotImplementedError

    def evidence(self) -> float:
        """The probability of all outcomes together, given what is never predicted (keys, cues)."""
        raise NotImplementedError

    @staticmethod
    def further() -> dict[str, float]:
        """Deviations from enumeration of whatever else rests on the tunnel and knows no sequence."""
        return {}


class Listed(Brute):
    """Where one hypothesis holds for the sequence and all can be listed."""

    def hypotheses(self) -> list[tuple[Any, Fraction]]:
        """Every hypothesis with its prior, not normalised, in the order of the tunnel's `support`."""
        raise NotImplementedError

    def channel(self, hypothesis: Any, t: int) -> list[Fraction]:
        """[V]: the probability of each outcome t under a hypothesis."""
        raise NotImplementedError

    def candidates(self) -> list[tuple[Any, Fraction]]:
        """The hypotheses that the data come from: the pool's, where there is one."""
        if self.tunnel.pool is None:
            return self.hypotheses()
        return [(member, Fraction(1)) for member in self.pool]

    @cached_property
    def pool(self) -> list[Any]:
        return np.asarray(self.tunnel.prepare(len(self.outcomes)).pool).tolist()

    def weights(self, candidates: list[tuple[Any, Fraction]], first: int, last: int) -> list[tuple[Any, Fraction]]:
        """Every candidate with prior × likelihood of the outcomes first … last−1."""
        weights = []
        for hypothesis, weight in candidates:
            for s in range(first, last):
                weight *= self.channel(hypothesis, s)[self.outcomes[s]]
            weights.append((hypothesis, weight))
        return weights

    def prior(self, t: int) -> np.ndarray:
        return as_probabilities(weight for _, weight in self.candidates())

    def posterior(self, t: int) -> np.ndarray:
        return as_probabilities(weight for _, weight in self.weights(self.candidates(), 0, t))

    def predictive(self, t: int) -> np.ndarray:
        return self._mixture(self.weights(self.candidates(), 0, t), t)

    def full_predictive(self, t: int) -> np.ndarray:
        """[V]: of the reasoner that knows the prior and not the pool."""
        return self._mixture(self.weights(self.hypotheses(), 0, t), t)

    def last(self, t: int, w: int) -> np.ndarray:
        """What is not seen sums to one under every hypothesis, so only the window's outcomes count."""
        return self._mixture(self.weights(self.candidates(), max(0, t - w), t), t)

    def _mixture(self, weights: list[tuple[Any, Fraction]], t: int) -> np.ndarray:
        pairs = ((v, weight * p) for hypothesis, weight in weights for v, p in enumerate(self.channel(hypothesis, t)))
        return normalised(pairs, self.tunnel.outcomes)

    def evidence(self) -> float:
        candidates = self.candidates()
        total = sum(weight for _, weight in self.weights(candidates, 0, len(self.outcomes)))
        return float(total / sum(weight for _, weight in candidates))


def as_probabilities(weights: Iterable[Fraction]) -> np.ndarray:
    weights = list(weights)
    total = sum(weights)
    return np.array([float(weight / total) for weight in weights])


def normalised(pairs: Iterable[tuple[int, Fraction]], outcomes: int) -> np.ndarray:
    """Probabilities of outcomes from (outcome, weight) pairs."""
    totals = [Fraction(0)] * outcomes
    for outcome, weight in pairs:
        totals[outcome] += weight
    return as_probabilities(totals)


def density(prior: Any, distance: float) -> Fraction:
    """exp(−(d/scale)^β), not normalised."""
    if prior.name == "uniform":
        return Fraction(1)
    beta = 2.0 if prior.name == "gaussian" else float(prior.beta)
    return Fraction(math.exp(-((abs(distance) / float(prior.scale)) ** beta)))


def small_prior(random: np.random.Generator) -> Any:
    """A random prior over a distance, of any kind."""
    scale, beta = float(random.uniform(0.5, 5)), float(random.uniform(0.3, 3))
    kinds = [Uniform(), Gaussian(scale=scale), GeneralizedGaussian(scale=scale, beta=beta)]
    return kinds[random.integers(len(kinds))]


def fraction(number: Any) -> Fraction:
    """A knob as it stands in float64."""
    return Fraction(float(number))

"""`urn`: every bias on the grid, draw by draw."""

from fractions import Fraction
from typing import Any

import numpy as np

from windtunnel import tunnels
from windtunnel.priors import Gaussian, GeneralizedGaussian, Uniform
from windtunnel.verify.brute.base import Listed, density, fraction


class Urn(Listed):
    """A hypothesis is the number of its place on the grid."""

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        hypotheses = int(random.integers(2, 8))
        noise = float(random.choice([0.0, 0.5, random.uniform(0, 0.5)], p=[0.4, 0.1, 0.5]))
        scale, beta = float(random.uniform(10, 60)), float(random.uniform(0.3, 3))  # percent: the grid is coarse
        prior = [Uniform(), Gaussian(scale=scale), GeneralizedGaussian(scale=scale, beta=beta)][random.integers(3)]
        pool = int(random.integers(2, 5)) if random.integers(3) == 0 else None
        return tunnels.Urn(hypotheses=hypotheses, noise=noise, prior=prior, pool=pool), 7

    def theta(self, hypothesis: int) -> Fraction:
        return (hypothesis + Fraction(1, 2)) / self.tunnel.hypotheses

    def hypotheses(self) -> list[tuple[Any, Fraction]]:
        return [
            (h, density(self.tunnel.prior, float(100 * abs(self.theta(h) - Fraction(1, 2)))))
            for h in range(self.tunnel.hypotheses)
        ]

    def channel(self, hypothesis: Any, t: int) -> list[Fraction]:
        theta, noise = self.theta(hypothesis), fraction(self.tunnel.noise)
        return [(1 - theta) * (1 - noise) + theta * noise, theta * (1 - noise) + (1 - theta) * noise]

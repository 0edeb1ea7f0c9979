"""`regression`: every weight vector on a fine grid, or every member of the pool.

The sum of a smooth function over an even grid, at whose ends it has died out, is its integral to rounding.
"""

import itertools
import math
from collections.abc import Sequence
from functools import cached_property
from statistics import NormalDist
from typing import Any

import jax
import numpy as np
from scipy.special import ndtr

from windtunnel import tunnels
from windtunnel.verify.brute.base import Brute

WIDEST = 8.0  # standard deviations of the prior
POINTS = {1: 2001, 2: 181}  # of the grid along each axis: at least two in a standard deviation of any posterior


class Regression(Brute):
    """Pairs as plain numbers. `listed` is false: a grid is no list of the hypotheses."""

    listed = False

    def __init__(self, tunnel: Any, inputs: np.ndarray, outcomes: Sequence[int]):
        super().__init__(tunnel, inputs, outcomes)
        self.d, self.sigma = tunnel.dimension, float(tunnel.sigma)
        self.x = [row[: self.d].tolist() for row in inputs[0::2]]
        self.y = [float(row[self.d]) for row in inputs[1::2]]
        axis = np.linspace(-WIDEST, WIDEST, POINTS[self.d]).tolist()
        self.grid = np.array(list(itertools.product(axis, repeat=self.d)))
        self.weight = np.array([math.exp(-sum(w * w for w in point) / 2) for point in self.grid.tolist()])

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        dimension = int(random.integers(1, 3))
        sigma = float(random.uniform(0.3, 2) if dimension == 1 else random.uniform(1, 2))
        pool = int(random.integers(2, 6)) if random.integers(3) == 0 else None
        return tunnels.Regression(dimension=dimension, sigma=sigma, pool=pool), 4

    @cached_property
    def known(self) -> tuple[np.ndarray, np.ndarray]:
        """The vectors that the data come from, and what each weighs."""
        if self.tunnel.pool is None:
            return self.grid, self.weight
        with jax.enable_x64(True):
            pool = np.asarray(self.tunnel.prepare(len(self.outcomes)).pool)
        return pool, np.ones(len(pool))

    def predictive(self, t: int) -> np.ndarray:
        return self._mixture(*self.known, range(t), t)

    def full_predictive(self, t: int) -> np.ndarray:
        """[V]: of the reasoner that knows the prior and not the pool."""
        return self._mixture(self.grid, self.weight, range(t), t)

    def last(self, t: int, w: int) -> np.ndarray:
        return self._mixture(*self.known, range(max(0, t - w), t), t)

    def _mixture(self, vectors: np.ndarray, weight: np.ndarray, seen: range, t: int) -> np.ndarray:
        """[V]: the cells' masses under each vector, weighted by its prior and by the density of the y seen."""
        weight = weight.copy()
        for s in seen:
            weight *= np.exp(-(((self.y[s] - self._line(vectors, s)) / self.sigma) ** 2) / 2)
        v = self.tunnel.outcomes
        prior = NormalDist(0, math.sqrt(sum(x * x for x in self.x[t]) + self.sigma**2))
        edges = [-math.inf, *(prior.inv_cdf(cell / v) for cell in range(1, v)), math.inf]
        below = [np.sum(weight * ndtr((edge - self._line(vectors, t)) / self.sigma)) for edge in edges]
        return np.diff(below) / np.sum(weight)

    def _line(self, vectors: np.ndarray, s: int) -> np.ndarray:
        """[vectors]: w·x_s."""
        return sum((vectors[:, i] * self.x[s][i] for i in range(self.d)), np.zeros(len(vectors)))

    def evidence(self) -> float:
        """Cells after continuous evidence: a product, which proves nothing. The tests have the chain of densities."""
        return math.prod(float(self.predictive(t)[outcome]) for t, outcome in enumerate(self.outcomes))

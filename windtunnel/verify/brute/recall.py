"""`recall`: every pair that the cue may have come from; every key, value and order that a lesser reasoner can't see."""

import itertools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from windtunnel import tunnels
from windtunnel.verify.brute.base import Brute, density, fraction, normalised, small_prior


class Recall(Brute):
    """Pairs, cue and prior as plain numbers."""

    static = False  # every observation asks anew

    def __init__(self, tunnel: Any, inputs: np.ndarray, outcomes: Sequence[int]):
        super().__init__(tunnel, inputs, outcomes)
        b, v = tunnel.bits, tunnel.symbols
        self.b, self.v = b, v
        self.keys = [tuple(int(x > 0) for x in row[:b]) for row in inputs]
        self.values = [int(np.argmax(row[b : b + v])) for row in inputs]
        self.cues = [tuple(int(x > 0) for x in row[b + v :]) for row in inputs]
        self.noise = fraction(tunnel.noise)
        self.density = [density(tunnel.prior, lag) for lag in range(len(inputs))]

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        bits, symbols = int(random.integers(1, 3)), int(random.integers(2, 4))
        noise = float(random.choice([0.0, 0.5, random.uniform(0, 0.5)]))  # one key of two: collisions everywhere
        return tunnels.Recall(bits=bits, symbols=symbols, noise=noise, prior=small_prior(random)), 4

    def likelihood(self, cue: tuple[int, ...], key: tuple[int, ...]) -> Fraction:
        result = Fraction(1)
        for a, b in zip(cue, key, strict=True):
            result *= 1 - self.noise if a == b else self.noise
        return result

    def posterior(self, t: int) -> np.ndarray:
        joint = [(j, self.density[t - j] * self.likelihood(self.cues[t], self.keys[j])) for j in range(t + 1)]
        return normalised(joint, len(self.keys))

    def prior(self, t: int) -> np.ndarray:
        return normalised([(j, self.density[t - j]) for j in range(t + 1)], len(self.keys))

    def evidence(self) -> float:
        """Every question is asked anew: a product."""
        return math.prod(float(self.predictive(t)[outcome]) for t, outcome in enumerate(self.outcomes))

    def baselines(self, t: int, windows: dict[str, int]) -> dict[str, np.ndarray]:
        return {
            **super().baselines(t, windows),
            "content-only": self.content_only(t),
            "position-only": self.position_only(t),
        }

    def predictive(self, t: int) -> np.ndarray:
        joint = self.joint(t, self.keys[: t + 1], self.values[: t + 1], self.cues[t])
        return normalised(joint, self.v)

    def joint(self, t, keys, values, cue) -> Iterator[tuple[int, Fraction]]:
        for j in range(t + 1):
            yield values[j], self.density[t - j] * self.likelihood(cue, keys[j])

    def last(self, t: int, w: int) -> np.ndarray:
        """Every key and value that the unseen pairs could have had, all equally likely."""
        hidden = max(0, t + 1 - w)
        bits = list(itertools.product((0, 1), repeat=self.b))
        pairs = list(itertools.product(bits, range(self.v)))

        def all_joint():
            for unseen in itertools.product(pairs, repeat=hidden):
                keys = [key for key, _ in unseen] + self.keys[hidden : t + 1]
                values = [value for _, value in unseen] + self.values[hidden : t + 1]
                yield from self.joint(t, keys, values, self.cues[t])

        return normalised(all_joint(), self.v)

    def content_only(self, t: int) -> np.ndarray:
        """Every order that the stored pairs could have had."""

        def all_joint():
            for order in itertools.permutations(range(t + 1)):
                yield from self.joint(t, [self.keys[i] for i in order], [self.values[i] for i in order], self.cues[t])

        return normalised(all_joint(), self.v)

    def position_only(self, t: int) -> np.ndarray:
        """Every cue and every set of keys."""
        bits = list(itertools.product((0, 1), repeat=self.b))

        def all_joint():
            for cue in bits:
                for keys in itertools.product(bits, repeat=t + 1):
                    yield from self.joint(t, keys, self.values[: t + 1], cue)

        return normalised(all_joint(), self.v)

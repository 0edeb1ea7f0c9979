"""Exact reasoners as plain loops over everything that could have happened. Slow, and meant to be read."""

import itertools
import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np

Weights = dict[int, Fraction]


def normalised(weights: Iterable[tuple[int, Fraction]], outcomes: int) -> np.ndarray:
    """Probabilities of outcomes from (outcome, weight) pairs."""
    totals = [Fraction(0)] * outcomes
    for outcome, weight in weights:
        totals[outcome] += weight
    return np.array([float(total / sum(totals)) for total in totals])


class Recall:
    """Pairs, cue and prior as plain numbers; every method predicts at observation t (from 0)."""

    def __init__(self, tunnel, inputs: np.ndarray):
        b, v = tunnel.bits, tunnel.symbols
        self.b, self.v = b, v
        self.keys = [tuple(int(x > 0) for x in row[:b]) for row in inputs]
        self.values = [int(np.argmax(row[b : b + v])) for row in inputs]
        self.cues = [tuple(int(x > 0) for x in row[b + v :]) for row in inputs]
        self.noise = Fraction(float(tunnel.noise))
        self.prior = [Fraction(self.density(tunnel.prior, lag)) for lag in range(len(inputs))]

    @staticmethod
    def density(prior, lag: int) -> float:
        if prior.name == "uniform":
            return 1.0
        beta = 2.0 if prior.name == "gaussian" else float(prior.beta)
        return math.exp(-((lag / float(prior.scale)) ** beta))

    def likelihood(self, cue: tuple[int, ...], key: tuple[int, ...]) -> Fraction:
        result = Fraction(1)
        for a, b in zip(cue, key, strict=True):
            result *= 1 - self.noise if a == b else self.noise
        return result

    def posterior(self, t: int) -> np.ndarray:
        joint = [(j, self.prior[t - j] * self.likelihood(self.cues[t], self.keys[j])) for j in range(t + 1)]
        return normalised(joint, len(self.keys))

    def predictive(self, t: int) -> np.ndarray:
        joint = self.joint(t, self.keys[: t + 1], self.values[: t + 1], self.cues[t])
        return normalised(joint, self.v)

    def joint(self, t, keys, values, cue) -> Iterator[tuple[int, Fraction]]:
        for j in range(t + 1):
            yield values[j], self.prior[t - j] * self.likelihood(cue, keys[j])

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


class Bijection:
    """Keys and values as plain numbers; hypotheses are all bijections, worlds all sequences they can give."""

    def __init__(self, tunnel, inputs: np.ndarray):
        self.v = tunnel.symbols
        self.keys = [int(x) for x in inputs[0::2]]
        self.values = [int(x) - self.v for x in inputs[1::2]]

    def posterior(self, t: int) -> np.ndarray:
        hypotheses = list(itertools.permutations(range(self.v)))
        seen = list(zip(self.keys[:t], self.values[:t], strict=True))
        agree = [all(pi[x] == y for x, y in seen) for pi in hypotheses]
        return np.array(agree) / sum(agree)

    def predictive(self, t: int) -> np.ndarray:
        return self.last(t, t)

    def last(self, t: int, w: int) -> np.ndarray:
        """Over every bijection and every order of keys that agree with the last w pairs and the key now asked."""
        first = max(0, t - w)
        weights = []
        for pi in itertools.permutations(range(self.v)):
            for order in itertools.permutations(range(self.v), t + 1):
                if list(order[first:]) == self.keys[first : t + 1] and all(
                    pi[x] == y for x, y in zip(order[first:t], self.values[first:t], strict=True)
                ):
                    weights.append((pi[order[t]], Fraction(1)))
        return normalised(weights, self.v)

"""`fusion`: every pair that both channels may have shown; every level of noise that a blind reasoner can't see."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from windtunnel import tunnels
from windtunnel.verify.brute.base import fraction, normalised, small_prior
from windtunnel.verify.brute.recall import Recall

Key = tuple[int, ...]


class Fusion(Recall):
    """A cue is what A and B show and with which noise: ((x, ε), (y, σ)). A dark channel is None."""

    def __init__(self, tunnel: Any, inputs: np.ndarray, outcomes: Sequence[int]):
        super().__init__(tunnel, inputs, outcomes)
        b, first = self.b, self.b + self.v
        self.cues: list[Any] = []  # pyrefly: ignore[bad-override]
        for row in inputs:
            x, noise, y, sigma = row[first : first + b], row[first + b], row[first + b + 1 : -1], row[-1]
            a = None if noise == 0 else (tuple(int(bit > 0) for bit in x), fraction(noise))
            self.cues.append((a, None if sigma == 0 else (tuple(map(float, y)), float(sigma))))

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        bits, symbols, levels = (int(random.integers(low, high)) for low, high in ((1, 3), (2, 4), (1, 4)))
        noise, sigma = float(random.uniform(0.05, 0.5)), float(random.uniform(0.3, 3))
        dark = float(random.choice([0.0, 0.5, random.uniform(0, 0.5)]))
        prior = small_prior(random)
        return tunnels.Fusion(
            bits=bits, symbols=symbols, noise=noise, sigma=sigma, levels=levels, dark=dark, prior=prior
        ), 4

    @staticmethod
    def flipped(x: Key, noise: Fraction, key: Key) -> Fraction:
        return math.prod((1 - noise if a == b else noise for a, b in zip(x, key, strict=True)), start=Fraction(1))

    @staticmethod
    def blurred(y: tuple[float, ...], sigma: float, key: Key) -> Fraction:
        """The normal density of y around the key ±1, less √(2π)^b."""
        result = Fraction(1)
        for number, bit in zip(y, key, strict=True):
            result *= Fraction(math.exp(-(((number - (2 * bit - 1)) / sigma) ** 2) / 2) / sigma)
        return result

    def likelihood(self, cue: Any, key: Key) -> Fraction:
        return self.through_a(cue, key) * self.through_b(cue, key)

    def through_a(self, cue: Any, key: Key) -> Fraction:
        return Fraction(1) if cue[0] is None else self.flipped(cue[0][0], cue[0][1], key)

    def through_b(self, cue: Any, key: Key) -> Fraction:
        return Fraction(1) if cue[1] is None else self.blurred(cue[1][0], cue[1][1], key)

    def through_better(self, cue: Any, key: Key) -> Fraction:
        """Through the channel whose log-likelihood ratio of a bit and its opposite is larger in expectation."""
        a, b = cue
        ratio_a = 0.0 if a is None else float((1 - 2 * a[1]) * Fraction(math.log((1 - a[1]) / a[1])))
        ratio_b = 0.0 if b is None else 2 / b[1] ** 2
        return self.through_a(cue, key) if ratio_a > ratio_b else self.through_b(cue, key)

    def blindly(self, cue: Any, key: Key) -> Fraction:
        """With every level of either noise, all equally likely."""
        shares = [Fraction(i + 1, self.tunnel.levels) for i in range(self.tunnel.levels)]
        a, b = Fraction(1), Fraction(1)
        if cue[0] is not None:
            a = sum(
                (self.flipped(cue[0][0], fraction(self.tunnel.noise) * share, key) for share in shares), Fraction(0)
            )
        if cue[1] is not None:
            each = (self.blurred(cue[1][0], float(self.tunnel.sigma) * float(share), key) for share in shares)
            b = sum(each, Fraction(0))
        return a * b

    def by(self, t: int, likelihood: Callable[[Any, Key], Fraction]) -> np.ndarray:
        pairs = [(self.values[j], self.density[t - j] * likelihood(self.cues[t], self.keys[j])) for j in range(t + 1)]
        return normalised(pairs, self.v)

    def baselines(self, t: int, windows: dict[str, int]) -> dict[str, np.ndarray]:
        a, b = self.by(t, self.through_a), self.by(t, self.through_b)
        return {
            **super().baselines(t, windows),
            "A": a,
            "B": b,
            "better": self.by(t, self.through_better),
            "equal-weights": (a + b) / 2,
            "blind": self.by(t, self.blindly),
        }

    def position_only(self, t: int) -> np.ndarray:
        """A cue that nobody has seen: it has some probability density or other, which is one in all under every key."""
        return self.by(t, lambda cue, key: Fraction(1))

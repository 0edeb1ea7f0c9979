"""`recurrence`: every program, and every past that a lesser reasoner does not see."""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from windtunnel import tunnels
from windtunnel.verify.brute.base import Listed, normalised


class Recurrence(Listed):
    """A hypothesis is (1, a, b), or (0, 0, 0) for chance."""

    def __init__(self, tunnel: Any, inputs: np.ndarray, outcomes: Sequence[int]):
        super().__init__(tunnel, inputs, outcomes)
        self.p = tunnel.modulus
        self.symbols = [int(symbol) for symbol in inputs[1:]]

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        modulus = int(random.choice([2, 3, 5]))
        pool = int(random.integers(2, 6)) if random.integers(3) == 0 else None
        return tunnels.Recurrence(modulus=modulus, pool=pool), {2: 7, 3: 6, 5: 4}[modulus]

    def hypotheses(self) -> list[tuple[Any, Fraction]]:
        programs = [((1, a, b), Fraction(1, self.p**2)) for a in range(self.p) for b in range(self.p)]
        return [*programs, ((0, 0, 0), Fraction(1))]

    def follows(self, hypothesis: Any, symbol: int) -> list[Fraction]:
        """[V]: the probability of each symbol after this one."""
        is_program, a, b = hypothesis
        if not is_program:
            return [Fraction(1, self.p)] * self.p
        return [Fraction((a * symbol + b) % self.p == v) for v in range(self.p)]

    def channel(self, hypothesis: Any, t: int) -> list[Fraction]:
        return self.follows(hypothesis, self.symbols[t])

    def baselines(self, t: int, windows: dict[str, int]) -> dict[str, np.ndarray]:
        return {**super().baselines(t, windows), "prior": self.marginal(t, t + 1)}  # without the current symbol

    def last(self, t: int, w: int) -> np.ndarray:
        """The last w transitions are w + 1 symbols."""
        return self.marginal(t, max(0, t - w))

    def marginal(self, t: int, hidden: int) -> np.ndarray:
        """Over every hypothesis and everything that the first `hidden` symbols could have been."""

        def all_joint():
            for hypothesis, weight in self.candidates():
                for past in itertools.product(range(self.p), repeat=hidden):
                    symbols = [*past, *self.symbols[hidden : t + 1]]
                    joint = weight / self.p  # the first symbol is uniform
                    for before, after in itertools.pairwise(symbols):
                        joint *= self.follows(hypothesis, before)[after]
                        if not joint:
                            break
                    else:
                        yield from ((v, joint * p) for v, p in enumerate(self.follows(hypothesis, symbols[-1])))

        return normalised(all_joint(), self.p)

"""`markov`: the probability of a whole sequence, row by row; every prediction is a ratio of two of them."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from windtunnel import tunnels
from windtunnel.verify.brute.base import Brute, as_probabilities, fraction


class Markov(Brute):
    """All symbols in a row, the last outcome included."""

    listed = False

    def __init__(self, tunnel: Any, inputs: np.ndarray, outcomes: Sequence[int]):
        super().__init__(tunnel, inputs, outcomes)
        self.k, self.order = tunnel.symbols, tunnel.order
        self.concentration = fraction(tunnel.concentration)
        self.sequence = [int(symbol) for symbol in inputs[1 : 1 + self.order]] + self.outcomes

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        concentration = float(random.choice([0.05, 1.0, random.uniform(0.1, 5)]))
        order, symbols = int(random.integers(0, 3)), int(random.integers(2, 4))
        return tunnels.Markov(symbols=symbols, order=order, concentration=concentration), 7

    def probability(self, sequence: Sequence[int]) -> Fraction:
        """∫ Π_s θ[context, symbol] dDirichlet(θ), given the first symbols. In a row, symbols that came n_1 … n_k times
        have the moment E[Π_c θ_c^{n_c}] = Π_c a (a+1) … (a+n_c−1) / ka (ka+1) … (ka+n−1).
        """
        rows: dict[tuple[int, ...], list[int]] = {}
        for s in range(self.order, len(sequence)):
            rows.setdefault(tuple(sequence[s - self.order : s]), []).append(sequence[s])
        result = Fraction(1)
        for row in rows.values():
            for symbol in range(self.k):
                for i in range(row.count(symbol)):
                    result *= self.concentration + i
            for i in range(len(row)):
                result /= self.k * self.concentration + i
        return result

    def after(self, sequence: list[int]) -> np.ndarray:
        return as_probabilities(self.probability([*sequence, symbol]) for symbol in range(self.k))

    def predictive(self, t: int) -> np.ndarray:
        return self.after(self.sequence[: t + self.order])

    def last(self, t: int, w: int) -> np.ndarray:
        """The last w transitions, as a sequence of their own."""
        return self.after(self.sequence[max(0, t - w) : t + self.order])

    def evidence(self) -> float:
        return float(self.probability(self.sequence))

"""`switching`: every hazard, every way to cut the sequence into runs, every throw that a lesser reasoner cannot see."""

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from windtunnel import tunnels
from windtunnel.tunnels.switching import MEMORIES
from windtunnel.verify.brute.base import Brute, as_probabilities, fraction, normalised


class Switching(Brute):
    static = False  # faces change

    def __init__(self, tunnel: Any, inputs: np.ndarray, outcomes: Sequence[int]):
        super().__init__(tunnel, inputs, outcomes)
        self.v, self.concentration = tunnel.symbols, fraction(tunnel.concentration)
        self.hazards = [fraction(hazard) for hazard in tunnel.hazards]

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        hazards = tuple(float(hazard) for hazard in random.uniform(0.05, 0.95, size=random.integers(1, 4)))
        concentration, symbols = float(random.uniform(0.1, 3)), int(random.integers(2, 4))
        return tunnels.Switching(symbols=symbols, concentration=concentration, hazards=hazards), 4

    def thrown(self, throws: Sequence[int]) -> Fraction:
        """The probability of the throws of one run: of each, from how often it has shown."""
        result = Fraction(1)
        for i, throw in enumerate(throws):
            seen = sum(1 for before in throws[:i] if before == throw)
            result *= (self.concentration + seen) / (self.v * self.concentration + i)
        return result

    def histories(self, throws: Sequence[int], hazard: Fraction) -> Iterator[tuple[int, Fraction]]:
        """The beginning of the last run, and the probability of these throws, for every way to cut them."""
        n = len(throws)
        for begins in itertools.product([False, True], repeat=n - 1):  # whether throws 1 … n−1 each begin a run
            cuts = [0, *(1 + i for i, new in enumerate(begins) if new), n]
            weight = hazard ** sum(begins) * (1 - hazard) ** (n - 1 - sum(begins))
            for first, end in itertools.pairwise(cuts):
                weight *= self.thrown(throws[first:end])
            yield cuts[-2], weight

    def probability(self, throws: Sequence[int], hazard: Fraction) -> Fraction:
        return sum((weight for _, weight in self.histories(throws, hazard)), Fraction(0))

    def next(self, t: int, w: int, hazards: Sequence[Fraction]) -> np.ndarray:
        """[V]: over these hazards, equally likely, and whatever came before the last w throws."""
        hidden = max(0, t - w)
        unseen = itertools.product(range(self.v), repeat=hidden)
        joint = (
            (v, self.probability([*before, *self.outcomes[hidden:t], v], hazard))
            for before in unseen
            for hazard in hazards
            for v in range(self.v)
        )
        return normalised(joint, self.v)

    def posterior(self, t: int) -> np.ndarray:
        """Of the beginning of the run that throw t is of, whatever that shows."""
        joint = (
            pair
            for hazard in self.hazards
            for v in range(self.v)
            for pair in self.histories([*self.outcomes[:t], v], hazard)
        )
        return normalised(joint, len(self.outcomes))

    def predictive(self, t: int) -> np.ndarray:
        return self.next(t, t, self.hazards)

    def last(self, t: int, w: int) -> np.ndarray:
        return self.next(t, w, self.hazards)

    def baselines(self, t: int, windows: dict[str, int]) -> dict[str, np.ndarray]:
        return {
            **super().baselines(t, windows),
            "no-switch": self.counting(t, Fraction(1)),
            **{f"forgetting-{memory}": self.counting(t, 1 - Fraction(1, memory)) for memory in MEMORIES},
            **(self.of_one_hazard(t) if len(self.hazards) > 1 else {}),
        }

    def counting(self, t: int, decay: Fraction) -> np.ndarray:
        weights = [self.concentration] * self.v
        for s in range(t):
            weights[self.outcomes[s]] += decay ** (t - 1 - s)
        return as_probabilities(weights)

    def of_one_hazard(self, t: int) -> dict[str, np.ndarray]:
        each = [self.next(t, t, [hazard]) for hazard in self.hazards]
        return {**{f"one-hazard-{i + 1}": p for i, p in enumerate(each)}, "static": np.mean(each, axis=0)}

    def evidence(self) -> float:
        return float(sum(self.probability(self.outcomes, hazard) for hazard in self.hazards) / len(self.hazards))

"""`shuffle`: every first arrangement, and every way in which swaps may have been done or not."""

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from windtunnel import tunnels
from windtunnel.verify.brute.base import Brute, fraction, normalised


class Shuffle(Brute):
    """Tokens as ("swap", i, j) or ("look", place, object)."""

    static = False  # objects move on

    def __init__(self, tunnel: Any, inputs: np.ndarray, outcomes: Sequence[int]):
        super().__init__(tunnel, inputs, outcomes)
        k = self.k = tunnel.objects
        names = [("swap", i, j) for i in range(k) for j in range(i + 1, k)]
        names += [("look", place, item) for place in range(k) for item in range(k)]
        self.tokens = [names[int(token) - 1] for token in inputs[1:]]
        self.noise = fraction(tunnel.noise)

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        noise, looks = float(random.choice([0.0, random.uniform(0, 0.5)])), float(random.uniform(0.2, 1))
        return tunnels.Shuffle(objects=int(random.integers(2, 5)), noise=noise, looks=looks), 5

    def worlds(self, t: int, first: int) -> Iterator[tuple[list[int], Fraction]]:
        """(arrangement after token t, joint probability of it and of the looks), when tokens from `first` on are seen
        and the arrangement before them is any.
        """
        tokens = self.tokens[first : t + 1]
        swaps = sum(kind == "swap" for kind, _, _ in tokens)
        for arrangement in itertools.permutations(range(self.k)):
            for done in itertools.product((True, False), repeat=swaps):
                items, happened, weight = list(arrangement), iter(done), Fraction(1)
                for kind, place, other in tokens:
                    if kind == "look":
                        right = items[place] == other
                        weight *= 1 - self.noise if right else self.noise / (self.k - 1)
                    elif next(happened):
                        items[place], items[other] = items[other], items[place]
                        weight *= 1 - self.noise
                    else:
                        weight *= self.noise
                yield items, weight

    def posterior(self, t: int) -> np.ndarray:
        number = {items: index for index, items in enumerate(itertools.permutations(range(self.k)))}
        return normalised(((number[tuple(items)], weight) for items, weight in self.worlds(t, 0)), len(number))

    def predictive(self, t: int) -> np.ndarray:
        return self.last(t, t + 1)

    def last(self, t: int, w: int) -> np.ndarray:
        worlds = self.worlds(t, max(0, t + 1 - w))
        return normalised(((items[0], weight) for items, weight in worlds), self.k)

    def evidence(self) -> float:
        """What lies in place 0 stays hidden, so each is asked anew."""
        return float(np.prod([self.predictive(t)[outcome] for t, outcome in enumerate(self.outcomes)]))

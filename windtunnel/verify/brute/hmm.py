"""`hmm`: every path of hidden states, and every naming of them that a lesser reasoner can't tell apart."""

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import jax
import numpy as np

from windtunnel import tunnels
from windtunnel.verify.brute.base import Brute, fraction, normalised

Rows = list[list[Fraction]]


class Hmm(Brute):
    """T, E and the symbols seen as plain numbers."""

    static = False  # the state moves on

    def __init__(self, tunnel: Any, inputs: np.ndarray, outcomes: Sequence[int]):
        super().__init__(tunnel, inputs, outcomes)
        s, o = self.s, self.o = tunnel.states, tunnel.symbols
        self.blind = tunnel.target == "symbol"
        if tunnel.parameters == "tokens":  # mark, T, mark, E, mark, symbols
            entries = [Fraction(int(token) - o, 100) for token in inputs[: s * (s + o) + 3]]
            t, e = entries[1 : s * s + 1], entries[s * s + 2 : -1]
            self.symbols = [int(token) for token in inputs[s * (s + o) + 3 :]]
        elif tunnel.parameters == "features":
            entries = [fraction(x) for x in inputs[-1][-s * (s + o) :]]
            t, e = entries[: s * s], entries[s * s :]
            self.symbols = [int(np.argmax(row[:o])) for row in inputs[1:]]  # after the start
        else:
            with jax.enable_x64(True):
                t, e = ([fraction(x) for x in np.ravel(rows)] for rows in tunnel.prepare(len(outcomes)))
            self.symbols = [int(token) for token in inputs[1:]]
        if self.blind:
            self.symbols.append(self.outcomes[-1])  # which is never an input
        self.transition = [t[i * s : (i + 1) * s] for i in range(s)]
        self.emission = [e[i * o : (i + 1) * o] for i in range(s)]

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        parameters, target = random.choice(["features", "tokens", "fixed"]), random.choice(["state", "symbol"])
        some: dict[str, Any] = {"states": int(random.integers(2, 4)), "symbols": int(random.integers(2, 4))}
        if parameters != "tokens" and random.integers(2):
            some["mixing"] = float(random.choice([0.0, 0.99, random.uniform(0, 0.99)]))
        elif parameters == "fixed" and random.integers(2):
            some = {"preset": "mess3", "states": 3, "symbols": 3}
        seed = int(random.integers(2**31))
        return tunnels.Hmm(parameters=str(parameters), target=str(target), parameters_seed=seed, **some), 4  # type: ignore[arg-type]

    def paths(self, t: int, first: int, last: int, transition: Rows, emission: Rows) -> Iterator[tuple[int, Fraction]]:
        """(z_t, probability of the path to it and of the symbols first … last−1 on it), for every path."""
        for path in itertools.product(range(self.s), repeat=t + 1):
            weight = Fraction(1, self.s)
            for i, j in itertools.pairwise(path):
                weight *= transition[i][j]
            for time in range(first, last):
                weight *= emission[path[time]][self.symbols[time]]
            yield path[-1], weight

    def joint(self, t: int, window: int, transition: Rows, emission: Rows) -> Iterator[tuple[int, Fraction]]:
        """(outcome, weight), when the last `window` symbols are seen."""
        last = t + (not self.blind)
        for z, weight in self.paths(t, max(0, last - window), last, transition, emission):
            if self.blind:
                yield from ((v, weight * emission[z][v]) for v in range(self.o))
            else:
                yield z, weight

    def posterior(self, t: int) -> np.ndarray:
        last = t + (not self.blind)
        return normalised(self.paths(t, 0, last, self.transition, self.emission), self.s)

    def predictive(self, t: int) -> np.ndarray:
        return self.last(t, t + 1)

    def last(self, t: int, w: int) -> np.ndarray:
        return normalised(self.joint(t, w, self.transition, self.emission), self.tunnel.outcomes)

    def baselines(self, t: int, windows: dict[str, int]) -> dict[str, np.ndarray]:
        return {**super().baselines(t, windows), "prior": self.blank(t)}

    def blank(self, t: int) -> np.ndarray:
        """Who has not seen T and E finds every naming of the states and of the symbols as likely as any other."""
        if self.tunnel.parameters == "fixed":
            return self.last(t, 0)

        def all_joint() -> Iterator[tuple[int, Fraction]]:
            for name in itertools.permutations(range(self.s)):
                for called in itertools.permutations(range(self.o)):
                    transition = [[self.transition[i][j] for j in name] for i in name]
                    emission = [[self.emission[i][v] for v in called] for i in name]
                    yield from self.joint(t, 0, transition, emission)

        return normalised(all_joint(), self.tunnel.outcomes)

    def evidence(self) -> float:
        """States stay hidden, so each is asked anew; symbols are all seen in the end."""
        if self.blind:
            n = len(self.outcomes)
            return float(sum(weight for _, weight in self.paths(n - 1, 0, n, self.transition, self.emission)))
        return float(np.prod([self.predictive(t)[outcome] for t, outcome in enumerate(self.outcomes)]))

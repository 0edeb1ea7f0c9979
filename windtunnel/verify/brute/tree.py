"""`tree`: every symbol that every node above the leaves could have had."""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from windtunnel import tunnels
from windtunnel.verify.brute.base import Brute, as_probabilities, fraction

Node = tuple[int, int]  # (height, index)


class Tree(Brute):
    """Nodes by height and index; leaves have height 0."""

    static = False  # every leaf has ancestors of its own
    listed = False

    def __init__(self, tunnel: Any, inputs: np.ndarray, outcomes: Sequence[int]):
        super().__init__(tunnel, inputs, outcomes)
        self.k, self.noise = tunnel.symbols, fraction(tunnel.noise)

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        symbols = int(random.integers(2, 4))
        noise = float(random.choice([0.0, 0.5, random.uniform(0, 0.5)]))
        return tunnels.Tree(symbols=symbols, noise=noise), 6 if symbols == 2 else 4

    def edge(self, above: int, below: int) -> Fraction:
        return 1 - self.noise if above == below else self.noise / (self.k - 1)

    def probability(self, leaves: dict[int, int]) -> Fraction:
        """Of these leaves, {index: symbol}: the sum over the symbols of all their ancestors, up to a common one."""
        height = int(max(leaves)).bit_length()
        inner: list[Node] = sorted({(h, t >> h) for t in leaves for h in range(1, height + 1)}, reverse=True)
        total = Fraction(0)
        for symbols in itertools.product(range(self.k), repeat=len(inner)):
            tree = {**dict(zip(inner, symbols, strict=True)), **{(0, t): symbol for t, symbol in leaves.items()}}
            weight = Fraction(1, self.k)  # the root
            for (h, index), symbol in tree.items():
                if h < height:
                    weight *= self.edge(tree[h + 1, index >> 1], symbol)
            total += weight
        return total

    def after(self, t: int, first: int) -> np.ndarray:
        """[V]: the next leaf, from the leaves `first` … t − 1."""
        before = {s: self.outcomes[s] for s in range(first, t)}
        return as_probabilities(self.probability({**before, t: symbol}) for symbol in range(self.k))

    def predictive(self, t: int) -> np.ndarray:
        return self.after(t, 0)

    def last(self, t: int, w: int) -> np.ndarray:
        return self.after(t, max(0, t - w))

    def baselines(self, t: int, windows: dict[str, int]) -> dict[str, np.ndarray]:
        horizon = max(windows.values())
        cut = {f"levels-{h}": self.after(t, t >> h << h) for h in range(1, (horizon - 1).bit_length() + 1)}
        return {**super().baselines(t, windows), **cut}

    def evidence(self) -> float:
        return float(self.probability(dict(enumerate(self.outcomes))))

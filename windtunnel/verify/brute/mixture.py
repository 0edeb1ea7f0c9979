"""`mixture`: every domain in turn, each judged by its own brute force; with a hazard, every way to cut the sequence."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from windtunnel import tunnels
from windtunnel.verify.brute.base import Brute, small_prior
from windtunnel.verify.brute.echo import Echo
from windtunnel.verify.brute.hmm import Hmm
from windtunnel.verify.brute.markov import Markov
from windtunnel.verify.brute.recurrence import Recurrence
from windtunnel.verify.brute.urn import Urn

JUDGES = {"echo": Echo, "hmm": Hmm, "markov": Markov, "recurrence": Recurrence, "urn": Urn}


class Mixture(Brute):
    """A segment at a time, as plain symbols."""

    static = False  # the domain changes with the segment

    def __init__(self, tunnel: Any, inputs: np.ndarray, outcomes: Sequence[int]):
        super().__init__(tunnel, inputs, outcomes)
        self.v = max(domain.outcomes for domain in tunnel.domains)
        self.length = tunnel.segment or len(self.outcomes)

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        kinds = [
            tunnels.Markov(symbols=int(random.integers(2, 4)), order=int(random.integers(1, 3)), concentration=0.3),
            tunnels.Recurrence(modulus=int(random.choice([2, 3]))),
            tunnels.Urn(hypotheses=4, noise=float(random.uniform(0, 0.5))),
            tunnels.Echo(
                symbols=int(random.integers(2, 4)), noise=float(random.uniform(0, 0.5)), prior=small_prior(random)
            ),
            tunnels.Hmm(
                states=2, symbols=2, parameters="fixed", target="symbol", parameters_seed=int(random.integers(9))
            ),
        ]
        if random.integers(2):  # runs: of a die and an echo, which may lack each other's symbols
            die = tunnels.Markov(symbols=int(random.integers(2, 4)), order=0, concentration=0.5)
            return tunnels.Mixture(domains=(die, kinds[3]), hazard=float(random.uniform(0.1, 0.9))), 5
        random.shuffle(kinds)  # type: ignore[arg-type]
        marked, segment = bool(random.integers(2)), int(random.integers(3, 5))
        domains = tuple(kinds[: random.integers(2, 4)])
        return tunnels.Mixture(domains=domains, marked=marked, segment=segment), 6

    def now(self, t: int) -> tuple[list[int], int]:
        """The symbols of the segment so far, and which domain its mark names (−1: none)."""
        first = t - t % self.length
        mark = int(self.inputs[first]) - self.v - 1
        return self.outcomes[first:t], mark

    def says(self, domain: Any, before: list[int], w: int) -> np.ndarray:
        """[V]: a domain's predictive of what comes after these symbols, of which the last w are seen."""
        v, n = domain.outcomes, len(before)
        given = domain.order if domain.name == "markov" else 1 if domain.name == "recurrence" else 0
        if any(symbol >= v for symbol in before[n - w :]) or w < given:  # ruled out: whatever it says
            p = np.full(v, 1 / v)
        else:
            before = [min(symbol, v - 1) for symbol in before]  # what is not seen may be what the domain does not have
            judge = JUDGES[domain.name](domain, np.asarray([v, *before]), [*before[given:], 0])
            p = judge.last(n - given, w - given)
        return np.pad(p, (0, self.v - v))

    def weigh(self, t: int, w: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Domains' probabilities from the last w symbols of the segment, and what each says."""
        symbols, mark = self.now(t)
        n = len(symbols)
        w = min(w, n)
        weights = []
        for d, domain in enumerate(self.tunnel.domains):
            weight = 1.0 if mark in (-1, d) else 0.0
            for s in range(n - w, n):  # seen one after the other, from the window's first on
                weight *= self.says(domain, symbols[:s], s - (n - w))[symbols[s]]
            weights.append(weight)
        return np.asarray(weights) / sum(weights), [self.says(domain, symbols, w) for domain in self.tunnel.domains]

    def histories(self, symbols: list[int]) -> np.ndarray:
        """[D, V]: the probability of each domain now and each symbol next, over every way to cut these symbols into
        runs, the present one included, and every domain of each.
        """
        h, domains, n = float(self.tunnel.hazard), self.tunnel.domains, len(symbols)
        joint = np.zeros((len(domains), self.v))
        for begins in itertools.product([False, True], repeat=n):  # whether symbols 1 … n each begin a run
            cuts = [0, *(1 + i for i, new in enumerate(begins) if new), n + 1]
            weight = h ** sum(begins) * (1 - h) ** (n - sum(begins))
            for first, end in itertools.pairwise(cuts[:-1]):
                weight *= np.mean([self.runs_like(domain, symbols[first:end]) for domain in domains])
            now = symbols[cuts[-2] :]
            for d, domain in enumerate(domains):
                joint[d] += weight / len(domains) * self.runs_like(domain, now) * self.says(domain, now, len(now))
        return joint / joint.sum()

    def runs_like(self, domain: Any, symbols: list[int]) -> float:
        """The probability of these symbols as a run of a domain."""
        return float(np.prod([self.says(domain, symbols[:i], i)[symbol] for i, symbol in enumerate(symbols)]))

    def posterior(self, t: int) -> np.ndarray:
        return self.weigh(t, t)[0] if self.tunnel.hazard is None else self.histories(self.outcomes[:t]).sum(axis=1)

    def predictive(self, t: int) -> np.ndarray:
        return self.last(t, t)

    def last(self, t: int, w: int) -> np.ndarray:
        if self.tunnel.hazard is not None:
            return self.histories(self.outcomes[max(0, t - w) : t]).sum(axis=0)
        weights, predictive = self.weigh(t, w)
        return np.sum([weight * p for weight, p in zip(weights, predictive, strict=True)], axis=0)

    def evidence(self) -> float:
        return float(np.prod([self.predictive(t)[outcome] for t, outcome in enumerate(self.outcomes)]))

"""`bandit`: polynomials integrated term by term, and every set of choices that may have been informed."""

import itertools
import math
import operator
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windtunnel import tunnels
from windtunnel.verify.brute.base import Brute, as_probabilities, fraction

Polynomial = list[Fraction]  # the coefficients of 1, x, x², …


class Bandit(Brute):
    """Pulls as pairs (arm, reward). `listed` is false: θ is a point of a continuum."""

    listed = False

    def __init__(self, tunnel: Any, inputs: np.ndarray, outcomes: Sequence[int]):
        super().__init__(tunnel, inputs, outcomes)
        self.arms = range(tunnel.arms)
        self.pulls = [divmod(int(token), 2) for token in inputs[1:]]

    @staticmethod
    def small(random: np.random.Generator) -> tuple[Any, int]:
        evenness = float(random.uniform(0.1, 2))
        informed = float(random.uniform(0.05, 0.95)) if random.integers(2) else None
        return tunnels.Bandit(arms=int(random.integers(2, 5)), evenness=evenness, informed=informed), 6

    def predictive(self, t: int) -> np.ndarray:
        return self.last(t, t)

    def last(self, t: int, w: int) -> np.ndarray:
        seen = self.pulls[max(0, t - w) : t]
        best = best_arm(counts(seen, len(self.arms)))
        if self.tunnel.informed is not None:
            best = [p * self.choices([arm for arm, _ in seen], i) for i, p in enumerate(best)]
        return as_probabilities(best)

    def choices(self, chosen: list[int], best: int) -> Fraction:
        """The probability of these choices if that arm is the best: any of them may have been informed, and the others
        come from a Pólya urn, the next from arm k with probability (α + those of k) / (Kα + all).
        """
        informed, alpha = fraction(self.tunnel.informed), fraction(self.tunnel.evenness)
        total = Fraction(0)
        for which in itertools.product([True, False], repeat=len(chosen)):
            weight, urn = Fraction(1), [alpha for _ in self.arms]
            for arm, knows in zip(chosen, which, strict=True):
                if knows:
                    weight *= informed * (arm == best)
                else:
                    weight *= (1 - informed) * urn[arm] / sum(urn)
                    urn[arm] += 1
            total += weight
        return total

    def reward(self, t: int, pulled: int) -> Fraction:
        """The mean of an arm, given all before t: Σ_i P(choices | i is best) ∫ θ_k f, i the largest of all θ."""
        seen = self.pulls[:t]
        densities = [density(*arm) for arm in counts(seen, len(self.arms))]
        weighed = [times([Fraction(0), Fraction(1)], f) if arm == pulled else f for arm, f in enumerate(densities)]
        informed = self.tunnel.informed is not None
        choices = [self.choices([arm for arm, _ in seen], i) if informed else Fraction(1) for i in self.arms]
        mass, total = (sum(map(operator.mul, choices, being_best(of)), Fraction(0)) for of in (weighed, densities))
        return mass / total

    def baselines(self, t: int, windows: dict[str, int]) -> dict[str, np.ndarray]:
        seen = counts(self.pulls[:t], len(self.arms))
        means = [Fraction(rewards + 1, pulls + 2) for pulls, rewards in seen]
        share = t // len(self.arms)
        rounded = [math.floor((share + 2) * mean + Fraction(1, 2)) - 1 for mean in means]
        equal = [(share, min(max(rewards, 0), share)) for rewards in rounded]
        blind = {"equal-pulls": as_probabilities(best_arm(equal))}
        for c in (1, 2, 3):
            weights = [math.exp(c * math.sqrt(share + 2) * mean) for mean in means]
            blind[f"softmax-mean-{c}"] = np.array(weights) / sum(weights)
        if self.tunnel.informed is not None:
            blind["interventions"] = as_probabilities(best_arm(seen))
        return {**super().baselines(t, windows), **blind}

    def evidence(self) -> float:
        """The best arm is never shown, so this product proves nothing: there is no chain of outcomes."""
        return math.prod(float(self.predictive(t)[outcome]) for t, outcome in enumerate(self.outcomes))

    @staticmethod
    def further() -> dict[str, float]:
        """The dynamic programme and the regrets of two arms, at a horizon that can be enumerated."""
        from windtunnel import regret
        from windtunnel.verify.brute import regret as brute

        exact = {name: float(of_t.sum()) for name, of_t in regret.regrets(3).items()}
        policies = {"greedy": brute.greedy, "thompson": brute.thompson, "uniform": brute.uniform}
        others = max(abs(exact[name] - brute.of(policy, 3)) for name, policy in policies.items())
        optimum = max(
            abs(exact["optimal"] - brute.optimal(3)),
            abs(float(regret.regrets(6)["optimal"].sum()) - brute.backward(6)),
        )
        return {
            "dynamic programme equals enumeration": optimum,
            "regrets equal enumeration": others,
            "next rewards equal enumeration": max(next_rewards(informed) for informed in (None, 0.4)),
        }


def next_rewards(informed: float | None) -> float:
    """How far `Bandit.log_rewards` is from enumeration, on sequences of three arms."""
    tunnel = tunnels.Bandit(arms=3, evenness=0.7, informed=informed)

    def answers() -> tuple[jax.Array, jax.Array]:
        tables = tunnel.prepare(5)
        batch = tunnel.sample(jax.random.key(0), tables, 2, 5)
        return batch.inputs, tunnel.log_rewards(tables, batch, jnp.arange(5))[..., 1]

    with jax.enable_x64(True):
        inputs_BT, log_reward_BPK = map(np.asarray, jax.jit(answers)())
    worst = 0.0
    for b, inputs in enumerate(inputs_BT):
        brute = Bandit(tunnel, inputs, [0] * len(inputs))
        for t in range(len(inputs)):
            expected = [float(brute.reward(t, arm)) for arm in brute.arms]
            worst = max(worst, float(np.abs(np.exp(log_reward_BPK[b, t]) - expected).max()))
    return worst


def counts(pulls: list[tuple[int, int]], arms: int) -> list[tuple[int, int]]:
    """(pulls, rewards) of each arm."""
    return [(sum(a == arm for a, _ in pulls), sum(r for a, r in pulls if a == arm)) for arm in range(arms)]


def best_arm(seen: list[tuple[int, int]]) -> list[Fraction]:
    """P(arm is best) of each arm, from the (pulls, rewards) of all."""
    return being_best([density(*arm) for arm in seen])


def being_best(densities: list[Polynomial]) -> list[Fraction]:
    """∫ f_i Π_{j≠i} ∫₀ˣ f_j of each arm."""
    below = [integrated(f) for f in densities]
    probabilities = []
    for i, f in enumerate(densities):
        for j, other in enumerate(below):
            f = times(f, other) if j != i else f
        probabilities.append(sum(integrated(f), Fraction(0)))  # from 0 to 1
    return probabilities


def density(pulls: int, rewards: int) -> Polynomial:
    """Of Beta(1 + rewards, 1 + pulls − rewards)."""
    failures = pulls - rewards
    scale = Fraction(math.factorial(pulls + 1), math.factorial(rewards) * math.factorial(failures))
    terms = [scale * math.comb(failures, k) * (-1) ** k for k in range(failures + 1)]
    return [Fraction(0)] * rewards + terms


def integrated(f: Polynomial) -> Polynomial:
    """∫₀ˣ f."""
    return [Fraction(0), *(c / (power + 1) for power, c in enumerate(f))]


def times(f: Polynomial, g: Polynomial) -> Polynomial:
    product = [Fraction(0)] * (len(f) + len(g) - 1)
    for i, a in enumerate(f):
        for j, b in enumerate(g):
            product[i + j] += a * b
    return product

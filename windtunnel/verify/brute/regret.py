"""Bayesian regret on two arms: every deterministic policy, and every sequence of choices and rewards, in fractions."""

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from windtunnel.verify.brute.bandit import best_arm, counts

Pulls = Sequence[tuple[int, int]]  # (arm, reward)


def likelihood(pulls: Pulls) -> Fraction:
    """P(rewards | choices) = Π_k s_k! (n_k − s_k)! / (n_k + 1)!, the integrals of θ^s (1 − θ)^(n−s)."""
    result = Fraction(1)
    for n, s in counts(list(pulls), 2):
        result *= Fraction(math.factorial(s) * math.factorial(n - s), math.factorial(n + 1))
    return result


def regret(reward: Fraction, horizon: int) -> float:
    return float(Fraction(2, 3) * horizon - reward)


def optimal(horizon: int) -> float:
    """The least regret of all deterministic policies: maps from the rewards so far to an arm."""
    every = [rewards for t in range(horizon) for rewards in itertools.product((0, 1), repeat=t)]
    most = Fraction(0)
    for arms in itertools.product((0, 1), repeat=len(every)):
        policy, total = dict(zip(every, arms, strict=True)), Fraction(0)
        for rewards in itertools.product((0, 1), repeat=horizon):
            total += sum(rewards) * likelihood([(policy[rewards[:t]], rewards[t]) for t in range(horizon)])
        most = max(most, total)
    return regret(most, horizon)


def backward(horizon: int) -> float:
    """The same over the tree of histories, from the leaves to the root, where policies are too many to list."""

    def most(pulls: tuple[tuple[int, int], ...]) -> Fraction:
        if len(pulls) == horizon:
            return likelihood(pulls) * sum(reward for _, reward in pulls)
        return max(sum((most((*pulls, (arm, reward))) for reward in (0, 1)), Fraction(0)) for arm in (0, 1))

    return regret(most(()), horizon)


def of(policy: Callable[[Pulls], Fraction], horizon: int) -> float:
    """Of a policy that takes the first arm with this probability after these pulls."""
    total = Fraction(0)
    for pulls in itertools.product([(0, 0), (0, 1), (1, 0), (1, 1)], repeat=horizon):
        chosen = Fraction(1)
        for t, (arm, _) in enumerate(pulls):
            first = policy(pulls[:t])
            chosen *= 1 - first if arm else first
        total += chosen * likelihood(pulls) * sum(reward for _, reward in pulls)
    return regret(total, horizon)


def greedy(pulls: Pulls) -> Fraction:
    first, second = (Fraction(s + 1, n + 2) for n, s in counts(list(pulls), 2))
    return Fraction(1, 2) if first == second else Fraction(int(first > second))


def thompson(pulls: Pulls) -> Fraction:
    return best_arm(counts(list(pulls), 2))[0]


def uniform(pulls: Pulls) -> Fraction:
    return Fraction(1, 2)

"""What acting is worth: exact Bayesian regrets on two Bernoulli arms with θ ~ U(0, 1), over all counts.

After t pulls, n of them of the first arm, the rewards s of the first and r of the second are a sufficient statistic.
All arrays are [n, s, r], each index up to t; what cannot be (s > n or r > t − n) is never reached. Float64, no JAX.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from scipy.special import betainc, betaln

BEST = 2 / 3  # E[max(θ₁, θ₂)]
TIE = 1e-12  # values that differ by less are the same, and either arm is taken

Policy = Callable[[int], np.ndarray]  # after t pulls: the probability of taking the first arm, for all counts


class Counts(NamedTuple):
    """Pulls and rewards of both arms, as arrays that broadcast to [n, s, r]."""

    pulls: tuple[np.ndarray, np.ndarray]
    rewards: tuple[np.ndarray, np.ndarray]

    @property
    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """E[θ | counts] = (s + 1) / (n + 2) of both."""
        (n, m), (s, r) = self.pulls, self.rewards
        return (np.minimum(s, n) + 1) / (n + 2), (np.minimum(r, m) + 1) / (m + 2)


def counts(t: int) -> Counts:
    n, s, r = np.ogrid[: t + 1, : t + 1, : t + 1]
    return Counts((n, t - n), (s, r))


def uniform(t: int) -> np.ndarray:
    return np.full((t + 1,) * 3, 0.5)


def greedy(t: int) -> np.ndarray:
    """The arm with the larger posterior mean; either, where they are equal."""
    first, second = counts(t).means
    return preferred(first - second)


def likeliest(t: int) -> np.ndarray:
    """The arm that is more probably the best; either, where they are alike. By a little not that of the larger mean."""
    return preferred(thompson(t) - 0.5)


@cache
def thompson(t: int) -> np.ndarray:
    """P(first arm is best) = ∫ f₁ F₂, by Gauss–Legendre with (t + 2)/2 nodes."""
    node_M, weight_M = np.polynomial.legendre.leggauss((t + 3) // 2)
    x_M = (1 + node_M) / 2
    (n, m), (s, r) = counts(t)
    a, b = (1.0 + np.minimum(s, n))[..., None], (1.0 + n - np.minimum(s, n))[..., None]
    density = np.exp((a - 1) * np.log(x_M) + (b - 1) * np.log1p(-x_M) - betaln(a, b))
    below = betainc((1.0 + np.minimum(r, m))[..., None], (1.0 + m - np.minimum(r, m))[..., None], x_M)
    return np.einsum("nsM,nrM,M->nsr", density[:, :, 0], below[:, 0], weight_M / 2)


def urn(evenness: float) -> Policy:
    """The behaviour in the data of `tunnels.Bandit`: frequencies from Dirichlet(α, α) are a Pólya urn, whose next
    choice is the first arm with probability (α + n) / (2α + t).
    """

    def policy(t: int) -> np.ndarray:
        n, _ = counts(t).pulls
        return np.broadcast_to((evenness + n) / (2 * evenness + t), (t + 1,) * 3)

    return policy


def action_values(horizon: int, policy: Policy | None = None) -> list[np.ndarray]:
    """[t]: Q_t [n, s, r, arm], the rewards to come from taking the arm now and following the policy after that; without
    one, the Bayes-optimal one, which knows how many pulls are left:

    Q_t(k) = m_k (1 + V_{t+1}(reward)) + (1 − m_k) V_{t+1}(none),   V_t = Σ_k π_t(k) Q_t(k) or max_k Q_t(k),   V_T = 0.
    """
    values: list[np.ndarray] = []
    value = np.zeros((horizon + 1,) * 3)
    for t in reversed(range(horizon)):
        mean, other = counts(t).means
        q = mean * (1 + value[1:, 1:, :-1]) + (1 - mean) * value[1:, :-1, :-1]
        q_other = other * (1 + value[:-1, :-1, 1:]) + (1 - other) * value[:-1, :-1, :-1]
        values.append(np.stack([q, q_other], axis=-1))
        value = np.maximum(q, q_other) if policy is None else policy(t) * q + (1 - policy(t)) * q_other
    return values[::-1]


def optimal(horizon: int) -> Policy:
    """The Bayes-optimal policy by dynamic programming; either arm, where both are worth the same."""
    values = action_values(horizon)
    return lambda t: preferred(values[t][..., 0] - values[t][..., 1])


def flat(of_t: list[np.ndarray]) -> np.ndarray:
    """What is known of all counts of every t, [n, s, r, …] each, in one array, for `index`."""
    return np.concatenate([of.reshape(-1, *of.shape[3:]) for of in of_t])


def index(t: Any, n: Any, s: Any, r: Any) -> Any:
    """Where the counts after t pulls stand in `flat`: Σ_{u<t} (u + 1)³ = (t (t + 1) / 2)² come before. numpy or JAX."""
    return (t * (t + 1) // 2) ** 2 + (n * (t + 1) + s) * (t + 1) + r


def occupancy(policy: Policy, horizon: int) -> Iterator[np.ndarray]:
    """For each pull, [n, s, r]: the probability of the counts before it."""
    reached = np.ones((1, 1, 1))
    for t in range(horizon):
        yield reached
        mean, other = counts(t).means
        first = reached * policy(t)
        second = reached - first
        reached = np.zeros((t + 2,) * 3)
        reached[1:, 1:, :-1] += first * mean
        reached[1:, :-1, :-1] += first * (1 - mean)
        reached[:-1, :-1, 1:] += second * other
        reached[:-1, :-1, :-1] += second * (1 - other)


def regret(policy: Policy, horizon: int) -> np.ndarray:
    """[horizon]: the expected regret of each pull, E[max θ] − E[reward], from the probabilities of all counts."""
    regrets = []
    for t, reached in enumerate(occupancy(policy, horizon)):
        mean, other = counts(t).means
        first = reached * policy(t)
        regrets.append(BEST * reached.sum() - (first * mean).sum() - ((reached - first) * other).sum())
    return np.array(regrets)


@cache
def regrets(horizon: int) -> dict[str, np.ndarray]:
    """[horizon] each: of the optimal policy for this horizon, and of those that do not ask how long they have."""
    policies = {
        "optimal": optimal(horizon),
        "greedy": greedy,
        "thompson": thompson,
        "likeliest": likeliest,
        "uniform": uniform,
    }
    return {name: regret(policy, horizon) for name, policy in policies.items()}


def preferred(advantage: np.ndarray) -> np.ndarray:
    """1 where the first arm is better, 0 where the second is, ½ where they are alike."""
    return np.where(np.abs(advantage) < TIE, 0.5, (advantage > 0).astype(float))

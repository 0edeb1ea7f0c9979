"""What an agent's KL guarantees of its regret: bounds on what it loses against exact Thompson sampling, on two arms.

With p the exact probability that the first arm is best, given the counts that the agent has reached, q the agent's, and
ΔQ_t what the one choice is worth more than the other to who samples exactly after it, the performance difference
(Kakade & Langford 2002) is an identity over the states s that the agent itself visits:

    regret(agent) − regret(Thompson) = Σ_t E_s[(p − q) ΔQ_t(s)].                                                     (1)

|p − q| is the total variation, at most √(k/2) at a KL of k nats (Pinsker), which ignores that Thompson sampling is sure
where much is at stake. With V the largest x(1 − x) between p and q, k ≥ (p − q)²/2V, and V ≤ p(1 − p) + |p − q|, so

    |p − q| ≤ 2k + √(2 k p(1 − p)),                                                                                  (2)

and with κ_t = E_s[k], M_t = max_s |ΔQ_t| and W_t = max_s p(1 − p) ΔQ_t², by Cauchy and Schwarz,

    |gap| ≤ Σ_t min(M_t √(κ_t/2), 2 M_t κ_t + √(2 κ_t W_t)).                                                         (3)

(3) needs no more than the KL on the states that the agent visits. Whoever also knows which these are has E_s[p(1 − p)
ΔQ²] in place of W_t. Nothing follows from the KL on other states: how much likelier exact Thompson sampling comes to
some counts than the behaviour in the data does is `coverage`.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from windtunnel import regret


class Stakes(NamedTuple):
    """Of all counts after t pulls, flat over t (`regret.index`): p [N] and ΔQ [N]; the largest |ΔQ| and p(1 − p) ΔQ²
    of each t [T].
    """

    p: np.ndarray
    advantage: np.ndarray
    most: np.ndarray
    most_spread: np.ndarray


@cache
def stakes(horizon: int) -> Stakes:
    values = regret.action_values(horizon, regret.thompson)
    p_t = [regret.thompson(t) for t in range(horizon)]
    advantage_t = [q[..., 0] - q[..., 1] for q in values]
    possible = [_possible(t) for t in range(horizon)]
    most = [np.abs(of[can]).max() for of, can in zip(advantage_t, possible, strict=True)]
    spread = [(p * (1 - p) * of**2)[can].max() for p, of, can in zip(p_t, advantage_t, possible, strict=True)]
    return Stakes(regret.flat(p_t), regret.flat(advantage_t), np.asarray(most), np.asarray(spread))


def _possible(t: int) -> np.ndarray:
    n, s, r = np.ogrid[: t + 1, : t + 1, : t + 1]
    return (s <= n) & (r <= t - n)


def gaps(horizon: int, at_BT: np.ndarray, q_BT: np.ndarray) -> np.ndarray:
    """[B, T]: (p − q) ΔQ at the counts that an agent has reached, where it takes the first arm with probability q:
    their sum over t is an estimate of (1) without the noise of choices and rewards.
    """
    known = stakes(horizon)
    return (known.p[at_BT] - q_BT) * known.advantage[at_BT]


def from_kl(horizon: int, kl_T: np.ndarray) -> dict[str, float]:
    """Bounds on |gap| from the mean KL (nats) before each pull alone: by Pinsker, and (3)."""
    known, kl_T = stakes(horizon), np.maximum(kl_T, 0)  # rounding can leave less
    pinsker_T = known.most * np.sqrt(kl_T / 2)
    spread_T = 2 * known.most * kl_T + np.sqrt(2 * kl_T * known.most_spread)
    return {"pinsker": float(pinsker_T.sum()), "guaranteed": float(np.minimum(pinsker_T, spread_T).sum())}


def from_visits(horizon: int, at_BT: np.ndarray, kl_BT: np.ndarray, q_BT: np.ndarray) -> dict[str, float]:
    """Bounds that also know the counts that the agent visits; and its policy there, all but the sign of (1)."""
    known = stakes(horizon)
    p_BT, advantage_BT = known.p[at_BT], known.advantage[at_BT]
    kl_T, spread_T = np.maximum(kl_BT.mean(axis=0), 0), (p_BT * (1 - p_BT) * advantage_BT**2).mean(axis=0)
    pinsker_T = np.sqrt(kl_T / 2 * (advantage_BT**2).mean(axis=0))
    visited_T = np.minimum(pinsker_T, 2 * known.most * kl_T + np.sqrt(2 * kl_T * spread_T))
    variation = np.abs((p_BT - q_BT) * advantage_BT).mean(axis=0).sum()
    return {"visited": float(visited_T.sum()), "variation": float(variation)}


def enough(horizon: int, gap: float) -> float:
    """The KL (nats), the same before each pull, up to which (3) guarantees a gap of at most so much."""
    low, high = -40.0, 0.0  # of its logarithm
    for _ in range(60):
        middle = (low + high) / 2
        bound = from_kl(horizon, np.full(horizon, np.exp(middle)))["guaranteed"]
        low, high = (middle, high) if bound <= gap else (low, middle)
    return float(np.exp(low))


def coverage(horizon: int, behaviour: Callable[[int], np.ndarray]) -> np.ndarray:
    """[T]: the largest ratio of the probabilities of counts under exact Thompson sampling and under a behaviour. For
    who reads nothing but counts, the KL on Thompson's states is at most that times the one on the behaviour's.
    """
    pairs = zip(regret.occupancy(regret.thompson, horizon), regret.occupancy(behaviour, horizon), strict=True)
    return np.asarray([np.max(own[own > 0] / other[own > 0]) for own, other in pairs])

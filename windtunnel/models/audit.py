"""The audit of an approximation: a few random queries are computed exactly.

Every approximation here computes log Z̃_i, its own log Σ_j exp(score_ij). What it lacks is the missed share

    m_i = 1 − Z̃_i / Z_i = the posterior mass of the keys that were left out, or 1 − exp(−KL(α̃_i ‖ α_i)) where keys
          are represented by others (then log Z̃ is an evidence bound, and the KL is its gap)

which lies in [0, 1], so the mean over A random queries bounds the mean over all of them.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import logsumexp, xlogy
from jaxtyping import Array

from windtunnel.models.score import Rows, Score, scores

QUERIES = 256  # A
ONCE = 16  # queries whose scores are in memory at once
LEVEL = 0.05


def audited(q: Array, k: Array, rows_Q: Rows, score: Score, log_evidence_BNQ: Array) -> dict[str, Array]:
    """Of A queries drawn evenly, with replacement and from a fixed key: the mean missed share over them and the heads,
    its upper bound at 95 %, the largest that was met, and the largest excess Z̃/Z − 1 (0 but for rounding, or where a
    method is no lower bound).
    """
    drawn_A = jax.random.randint(jax.random.key(0), (QUERIES,), 0, q.shape[2])
    rows_Q = jnp.asarray(rows_Q)

    def missed(drawn: Array) -> Array:
        log_z_BNA = logsumexp(scores(q[:, :, drawn], k, rows_Q[drawn], score), axis=-1)
        return 1 - jnp.exp(log_evidence_BNQ[:, :, drawn] - log_z_BNA)

    missed_BNA = jnp.concatenate(list(lax.map(missed, drawn_A.reshape(-1, ONCE))), axis=-1)
    mean_B = jnp.mean(jnp.clip(missed_BNA, 0, 1), axis=(1, 2))
    return {
        "audit_missed_mean": mean_B,
        "audit_missed_bound": upper_bound(mean_B, QUERIES),
        "audit_missed_worst": jnp.max(missed_BNA, axis=(1, 2)),
        "audit_excess_worst": jnp.max(-missed_BNA, axis=(1, 2)),
    }


def upper_bound(mean: Array, count: int, level: float = LEVEL) -> Array:
    """The largest p for which `count` draws from [0, 1] with mean p have so small a mean, or a smaller one, with a
    probability above `level`, by Hoeffding's binary form of Chernoff's bound: kl(mean ‖ p) ≤ log(1/level)/count. Where
    the mean is 0 it is 1 − level^(1/count), close to 3.0/count. By bisection.
    """
    most = math.log(1 / level) / count

    def kl(p: Array) -> Array:
        return xlogy(mean, mean) + xlogy(1 - mean, 1 - mean) - xlogy(mean, p) - xlogy(1 - mean, 1 - p)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        inside = kl(middle) <= most
        return jnp.where(inside, middle, low), jnp.where(inside, high, middle)

    return lax.fori_loop(0, 40, halve, (mean, jnp.ones_like(mean)))[1]


def rows_of(length: int, count: int, seed: int = 0) -> np.ndarray:
    """int[count]: distinct tokens of a sequence, ascending, drawn evenly."""
    return np.sort(np.random.default_rng(seed).choice(length, min(count, length), replace=False))

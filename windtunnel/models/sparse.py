"""Sparse attention: the loop of exact attention, stopped where the positional prior's own tail is negligible.

Far keys are dropped, not sampled: an unbiased estimate of their mass from a few of them has the variance of
e^content, and errs by more than leaving them out.
"""

import jax.numpy as jnp
from jaxtyping import Array

from windtunnel.models import blocks
from windtunnel.models.inference import Approximate
from windtunnel.models.score import Rows, Score, log_tail


def attend(q: Array, k: Array, v: Array, rows_Q: Rows, score: Score, mass: Array | float) -> Approximate:
    """Its certificates: `mass_bound`, rigorous and for most contents close to 1, which says nothing;
    `prior_tail_mean` and `prior_tail_worst`, the prior mass of what a query did not read, on average over queries and
    heads and at most: the expected posterior mass there if a head is calibrated.
    """
    rows_Q = jnp.asarray(rows_Q)
    context_BNQd, seen = blocks.in_blocks(q, k, v, rows_Q, score, jnp.asarray(mass))
    tail_NT = log_tail(score.table(), rows_Q, score)
    first_NQ = jnp.repeat(seen.first_MN, min(blocks.CHUNK, len(rows_Q)), axis=0)[: len(rows_Q)].T
    nearest_NQ = rows_Q[None] - first_NQ * blocks.CHUNK + 1
    log_share_NQ = jnp.take_along_axis(
        jnp.broadcast_to(tail_NT - tail_NT[:, :1], (q.shape[1], tail_NT.shape[1])),
        jnp.clip(nearest_NQ, 0, k.shape[2] - 1),
        axis=1,
    )
    share_NQ = jnp.where((first_NQ > 0) & (nearest_NQ <= rows_Q[None]), jnp.exp(log_share_NQ), 0.0)
    numbers = {
        "mass_bound": 1 - 1 / (1 + seen.mass),  # from a share of what was read to one of all
        "prior_tail_mean": jnp.mean(share_NQ),
        "prior_tail_worst": jnp.max(share_NQ),
    }
    everywhere = {name: jnp.full(q.shape[0], number) for name, number in numbers.items()}
    return Approximate(context_BNQd, seen.log_evidence_BNQ, jnp.full(q.shape[0], seen.skipped), everywhere)

"""Hierarchical attention: far keys in dyadic nodes, coarser the farther they are.

A node of level l is s_l = CHUNK · fanout^l consecutive tokens. A query sees the keys of its own block and of near − 1
blocks before it one by one; at every level it sees those nodes whose parents are near to its own ancestor there (fewer
than `near` apart) while they themselves are not. These nodes and the near keys cover the past once, with at most
(fanout − 1) · near nodes a level, so a token costs O(log T). A node has its mean key and mean value, and its exact
prior mass

    s = q·k̄/√d + log Σ_{j in node} p(i − j).

Z and B are as in `blocks.py`; L is levels, U the nodes that a query sees at a level, F = L·U all of them.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from windtunnel.models import blocks
from windtunnel.models.cells import axes_of, gap_estimate, padded, spread
from windtunnel.models.chunks import joined
from windtunnel.models.inference import Approximate
from windtunnel.models.score import Rows, Score, content


def attend(q: Array, k: Array, v: Array, rows_Q: Rows, score: Score, near: int, fanout: int) -> Approximate:
    """Its certificates: `gap_estimate_…` (nats), log Σ_n α̃_n exp(½ qᵀΣ_n q/d) with Σ_n the covariance of a node's keys:
    what its mean key misses of log Z, to second order in each node (`gap_estimate`). There is no rigorous bound: log Z̃
    can also exceed log Z where the prior is not constant within a node (`audit_excess_worst`).
    """
    batch, length, size = len(k), k.shape[2], blocks.CHUNK
    count, dtype = -(-length // size), jnp.promote_types(q.dtype, jnp.float32)
    levels = next(n for n in range(1, 64) if fanout**n * near >= count)
    before = (near - 1) * size  # zeros before the first token, so that every block has blocks before it
    axes_BNdd = axes_of(q)
    q = padded(spread(q, rows_Q, length), count * size)
    k, v = (jnp.pad(padded(x, count * size), ((0, 0), (0, 0), (before, 0), (0, 0))) for x in (k, v))
    k_LBNMd, square_LBNMd, v_LBNMd = (
        means(x[:, :, before:].astype(dtype), size, fanout, levels) for x in (k, jnp.square(k @ axes_BNdd), v)
    )
    mass_LNT = masses(score, length, size, fanout, levels)
    level_L1, slot_U = jnp.arange(levels)[:, None], jnp.arange((fanout - 1) * near)

    def block(index: Array) -> tuple[Array, Array, Array]:
        rows_C = index * size + jnp.arange(size)
        own_C = jnp.minimum(rows_C, length - 1)
        q_block = lax.dynamic_slice_in_dim(q, index * size, size, axis=2).astype(dtype)
        near_k, near_v = (lax.dynamic_slice_in_dim(x, index * size, near * size, axis=2).astype(dtype) for x in (k, v))
        key_at = index * size - before + jnp.arange(near * size)
        near_BNCJ = content(q_block, near_k)
        prior_NCJ = score.log_prior(own_C, jnp.clip(key_at, 0, length - 1))
        near_BNCJ = near_BNCJ if prior_NCJ is None else near_BNCJ + prior_NCJ[None]
        visible_CJ = (key_at[None] <= rows_C[:, None]) & (key_at[None] >= 0)
        near_BNCJ = jnp.where(visible_CJ[None, None], near_BNCJ, -jnp.inf)

        ancestor_L1 = index // fanout**level_L1
        node_LU = ancestor_L1 - near - slot_U[None]
        seen_LU = node_LU >= jnp.maximum(fanout * (ancestor_L1 // fanout - near + 1), 0)
        node_LU = jnp.maximum(node_LU, 0)
        k_BNFd, square_BNFd, v_BNFd = (taken(x, level_L1, node_LU) for x in (k_LBNMd, square_LBNMd, v_LBNMd))
        from_first_CLU = jnp.clip(own_C[:, None, None] - node_LU * size * fanout**level_L1, 0, length - 1)
        mass_NCLU = jnp.moveaxis(mass_LNT[level_L1, :, from_first_CLU], -1, 0)
        mass_NCF = jnp.where(seen_LU, mass_NCLU, -jnp.inf).reshape(len(mass_NCLU), size, -1)
        far_BNCF = content(q_block, k_BNFd) + mass_NCF[None]
        log_z_BNC = jax.nn.logsumexp(jnp.concatenate([near_BNCJ, far_BNCF], axis=-1), axis=-1)
        near_BNCJ, far_BNCF = (jnp.exp(x - log_z_BNC[..., None]) for x in (near_BNCJ, far_BNCF))
        gap_BNC = gap_estimate(q_block, k_BNFd, square_BNFd, far_BNCF, axes_BNdd)
        return (near_BNCJ @ near_v + far_BNCF @ v_BNFd).astype(q.dtype), log_z_BNC, lax.stop_gradient(gap_BNC)

    out, log_z, gap = lax.map(jax.checkpoint(block), jnp.arange(count))
    log_z_BNT, gap_BNT = (joined(x[..., None], length)[..., 0] for x in (log_z, gap))
    read = sum(min(index + 1, near) for index in range(count))
    return Approximate(
        joined(out, length)[:, :, rows_Q],
        log_z_BNT[:, :, rows_Q],
        jnp.full(batch, 1 - read / (count * (count + 1) / 2)),
        {
            "gap_estimate_mean": jnp.mean(gap_BNT[:, :, rows_Q], axis=(1, 2)),
            "gap_estimate_worst": jnp.max(gap_BNT[:, :, rows_Q], axis=(1, 2)),
        },
    )


def means(x: Array, size: int, fanout: int, levels: int) -> Array:
    """[L, B, N, M, d]: the means over nodes of tokens [B, N, T, d], at each level in the first places, then zeros."""
    mean_BNMd = jnp.mean(x.reshape(*x.shape[:2], -1, size, x.shape[-1]), axis=3)
    count = mean_BNMd.shape[2]

    def coarser(mean_BNMd: Array, _: None) -> tuple[Array, Array]:
        full = padded(mean_BNMd, count + -count % fanout)
        return padded(jnp.mean(full.reshape(*full.shape[:2], -1, fanout, full.shape[-1]), axis=3), count), mean_BNMd

    return lax.scan(coarser, mean_BNMd, None, length=levels)[1]


def masses(score: Score, length: int, size: int, fanout: int, levels: int) -> Array:
    """[L, N or 1, T]: the log prior mass of a node of each level, by the distance of a query from its first token, as
    log-sums of the level below. They lose nothing to cancellation, which differences of cumulative sums would.
    """
    table_NT = score.table() if score.position.has_bias else jnp.zeros((1, length))
    distance_T = jnp.arange(length)

    def wider(mass_NT: Array, width: Array, times: int) -> Array:
        shift_RT = distance_T[None] - jnp.arange(times)[:, None] * width
        shifted_NRT = jnp.where(shift_RT >= 0, mass_NT[:, jnp.maximum(shift_RT, 0)], -jnp.inf)
        return jax.nn.logsumexp(shifted_NRT, axis=1)

    for power in range(int(math.log2(size))):
        table_NT = wider(table_NT, jnp.asarray(2**power), 2)

    def coarser(mass_NT: Array, width: Array) -> tuple[Array, Array]:
        return wider(mass_NT, width, fanout), mass_NT

    return lax.scan(coarser, table_NT, size * fanout ** jnp.arange(levels))[1]


def taken(x_LBNMd: Array, level_L1: Array, node_LU: Array) -> Array:
    """[B, N, F, d]: these nodes of each level."""
    of_levels = x_LBNMd[level_L1, :, :, node_LU]  # [L, U, B, N, d]
    return jnp.moveaxis(of_levels.reshape(-1, *of_levels.shape[2:]), 0, 2)

"""Variational attention: far keys stand for their cell, with a posterior that is constant within a cell.

Of all posteriors α̃ that are constant within cells, the best one, whose evidence bound is the tightest, has

    log Z̃_i = log [ Σ_{j near} exp(s_ij) + Σ_c n_c exp(q_i·k̄_c/√d + b) ] ≤ log Z_i,    log Z_i − log Z̃_i = KL(α̃_i ‖ α_i)

with n_c keys of mean k̄_c in cell c, and b the prior, which must be constant over far keys. To second order the gap is
½ Σ_j α_j (q·(k_j − k̄_c))²/d, so cells are found by k-means in the metric E[qqᵀ]. Where keys take no more values than
there are cells, nothing is lost.

K is the cells, C the tokens of a block; near are a query's own block and the one before.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from windtunnel.models import blocks
from windtunnel.models.chunks import joined
from windtunnel.models.inference import Approximate
from windtunnel.models.score import Rows, Score, content

LARGEST = 60.0  # nats, of an estimated gap: its exponential is finite
Codebook = dict[str, Array]  # `centre` [N, K, d], and `metric` [N, d, d], which maps keys to where distances are taken


def fitted(q: Array, k: Array, cells: int, max_iterations: int, tolerance: Any) -> Codebook:
    """The codebook of keys [B, N, T, d] and the queries that read them, by k-means. Its start is a key, then the key
    farthest from those chosen, and so on, by which as many distinct keys as there are cells are found exactly. It ends
    when an iteration lowers the loss by less than the share `tolerance`.
    """
    q_NSd, k_NSd = (jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, x.shape[3]).astype(jnp.float32) for x in (q, k))
    value_Nd, vector_Ndd = jnp.linalg.eigh(jnp.einsum("nsd,nse->nde", q_NSd, q_NSd) / q_NSd.shape[1])
    metric_Ndd = vector_Ndd * jnp.sqrt(jnp.maximum(value_Nd, 0.0))[:, None]

    def of_head(head: tuple[Array, Array]) -> Array:
        k_Sd, metric_dd = head
        y_Sd = k_Sd @ metric_dd

        def farthest(index: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
            chosen_K, distance_S = state
            best = jnp.argmax(distance_S)
            return chosen_K.at[index].set(best), jnp.minimum(distance_S, jnp.sum((y_Sd - y_Sd[best]) ** 2, axis=-1))

        start = jnp.zeros(cells, jnp.int32), jnp.sum((y_Sd - y_Sd[0]) ** 2, axis=-1)
        chosen_K, _ = lax.fori_loop(1, cells, farthest, start)

        def improves(state: tuple[Array, ...]) -> Array:
            _, loss, before, count = state
            return (count < max_iterations) & (before - loss > tolerance * before)

        def iteration(state: tuple[Array, ...]) -> tuple[Array, ...]:
            centre_Kd, loss, _, count = state
            cell_S = nearest(y_Sd, centre_Kd @ metric_dd)
            one_hot_SK = jax.nn.one_hot(cell_S, cells)
            count_K1 = jnp.sum(one_hot_SK, axis=0)[:, None]
            mean_Kd = jnp.where(count_K1 > 0, one_hot_SK.T @ k_Sd / jnp.maximum(count_K1, 1), centre_Kd)
            return mean_Kd, jnp.mean(jnp.sum((y_Sd - (mean_Kd @ metric_dd)[cell_S]) ** 2, axis=-1)), loss, count + 1

        most = jnp.asarray(jnp.finfo(jnp.float32).max)
        return lax.while_loop(improves, iteration, iteration((k_Sd[chosen_K], most / 2, most, jnp.zeros((), int))))[0]

    return {"centre": lax.map(of_head, (k_NSd, metric_Ndd)), "metric": metric_Ndd}


def nearest(y_Sd: Array, centre_Kd: Array) -> Array:
    """int[S]: the nearest centre."""
    return jnp.argmin(jnp.sum(centre_Kd**2, axis=-1) - 2 * y_Sd @ centre_Kd.T, axis=-1)


class Sums(NamedTuple):
    """Over the far keys of each cell: their number [B, N, K], Σ k and, along `axes_of` the queries, Σ k² [B, N, K, d],
    Σ v, and the largest distance [B, N, K] of a key from the codebook's centre.
    """

    count: Array
    k: Array
    square: Array
    v: Array
    radius: Array


def attend(q: Array, k: Array, v: Array, rows_Q: Rows, score: Score, codebook: Codebook) -> Approximate:
    """Its certificates: `mass_bound`, rigorous. Within a cell q·k/√d varies by at most w = 2|q| radius/√d, so by
    Hoeffding's lemma a cell's evidence is short by at most w²/8 (and w) nats; near 1 it says nothing. `gap_estimate_…`
    (nats), log Σ_c α̃_c exp(½ qᵀΣ_c q/d) with Σ_c the covariance of a cell's keys: the gap to second order in each cell.
    """
    batch, heads, length, size = *k.shape[:3], blocks.CHUNK
    count, dtype = -(-length // size), jnp.promote_types(q.dtype, jnp.float32)
    axes_BNdd = axes_of(q)
    q, k, v = (padded(x, count * size) for x in (spread(q, rows_Q, length), k, v))
    centre_NKd, metric_Ndd = codebook["centre"].astype(dtype), codebook["metric"].astype(dtype)
    cells, root = centre_NKd.shape[1], jnp.sqrt(q.shape[-1]).astype(dtype)
    at_NKd = jnp.einsum("nkd,nde->nke", centre_NKd, metric_Ndd)
    far_prior_N1 = jnp.zeros((1, 1)) if not score.position.has_bias else score.table()[:, -1:]

    def block_of(x: Array, index: Array) -> Array:
        return lax.dynamic_slice_in_dim(x, jnp.maximum(index, 0) * size, size, axis=2).astype(dtype)

    def step(sums: Sums, index: Array) -> tuple[Sums, tuple[Array, ...]]:
        rows_C = index * size + jnp.arange(size)
        key_at = jnp.concatenate([rows_C - size, rows_C])
        q_block = block_of(q, index)
        near_k, near_v = (jnp.concatenate([block_of(x, index - 1), block_of(x, index)], axis=2) for x in (k, v))
        near_BNCJ = content(q_block, near_k)
        prior_NCJ = score.log_prior(jnp.minimum(rows_C, length - 1), jnp.clip(key_at, 0, length - 1))
        near_BNCJ = near_BNCJ if prior_NCJ is None else near_BNCJ + prior_NCJ[None]
        visible_CJ = (key_at[None] <= rows_C[:, None]) & (key_at[None] >= 0)
        near_BNCJ = jnp.where(visible_CJ[None, None], near_BNCJ, -jnp.inf)
        safe_BNK1 = jnp.maximum(sums.count, 1)[..., None]
        k_BNKd, v_BNKd = sums.k / safe_BNK1, sums.v / safe_BNK1
        log_count_BNK = jnp.where(sums.count > 0, jnp.log(safe_BNK1[..., 0]), -jnp.inf) + far_prior_N1[None]
        far_BNCK = content(q_block, k_BNKd) + log_count_BNK[:, :, None]
        log_z_BNC = jax.nn.logsumexp(jnp.concatenate([near_BNCJ, far_BNCK], axis=-1), axis=-1)
        log_far_BNCK = far_BNCK - log_z_BNC[..., None]
        near_BNCJ, far_BNCK = jnp.exp(near_BNCJ - log_z_BNC[..., None]), jnp.exp(log_far_BNCK)
        context_BNCd = near_BNCJ @ near_v + far_BNCK @ v_BNKd

        width_BNCK = 2 * jnp.linalg.norm(q_block, axis=-1)[..., None] * sums.radius[:, :, None] / root
        short_BNCK = jnp.minimum(width_BNCK**2 / 8, width_BNCK)  # its exponential can be infinite
        log_missed_BNCK = log_far_BNCK + short_BNCK + jnp.log(-jnp.expm1(-short_BNCK))
        bound_BNC = jax.nn.sigmoid(jax.nn.logsumexp(log_missed_BNCK, axis=-1))  # m / (1 + m) of what is missed
        gap_BNC = gap_estimate(q_block, k_BNKd, sums.square / safe_BNK1, far_BNCK, axes_BNdd)

        old_k, old_v = near_k[:, :, :size], near_v[:, :, :size]
        y_BNCd = jnp.einsum("bncd,nde->bnce", old_k, metric_Ndd)
        cell_BNC = jax.vmap(jax.vmap(nearest), in_axes=(0, None))(y_BNCd, at_NKd)
        one_hot_BNCK = jax.nn.one_hot(cell_BNC, cells, dtype=dtype) * (index > 0)
        to_cell_BNKC = jnp.swapaxes(one_hot_BNCK, 2, 3)
        own_BNCd = jnp.einsum("bnck,nkd->bncd", one_hot_BNCK, centre_NKd)
        distance_BNC1 = jnp.linalg.norm(lax.stop_gradient(old_k - own_BNCd), axis=-1)[..., None]
        sums = Sums(
            sums.count + jnp.sum(one_hot_BNCK, axis=2),
            sums.k + to_cell_BNKC @ old_k,
            sums.square + to_cell_BNKC @ (old_k @ axes_BNdd) ** 2,
            sums.v + to_cell_BNKC @ old_v,
            jnp.maximum(sums.radius, jnp.max(distance_BNC1 * one_hot_BNCK, axis=2)),
        )
        return sums, (context_BNCd.astype(q.dtype), log_z_BNC, lax.stop_gradient(gap_BNC), lax.stop_gradient(bound_BNC))

    zero_BNK = jnp.zeros((batch, heads, cells), dtype)
    zero_BNKd = jnp.zeros((batch, heads, cells, k.shape[-1]), dtype)
    nothing = Sums(zero_BNK, zero_BNKd, zero_BNKd, jnp.zeros((*zero_BNK.shape, v.shape[-1]), dtype), zero_BNK)
    _, (out, *numbers) = lax.scan(jax.checkpoint(step), nothing, jnp.arange(count))
    log_z_BNT, gap_BNT, bound_BNT = (joined(x[..., None], length)[..., 0] for x in numbers)
    read = 2 * count - 1
    return Approximate(
        joined(out, length)[:, :, rows_Q],
        log_z_BNT[:, :, rows_Q],
        jnp.full(batch, 1 - read / (count * (count + 1) / 2)),
        {
            "mass_bound": jnp.max(bound_BNT[:, :, rows_Q], axis=(1, 2)),
            "gap_estimate_mean": jnp.mean(gap_BNT[:, :, rows_Q], axis=(1, 2)),
            "gap_estimate_worst": jnp.max(gap_BNT[:, :, rows_Q], axis=(1, 2)),
        },
    )


def axes_of(q_BNQd: Array) -> Array:
    """[B, N, d, d]: as columns, the eigenvectors of the queries' mean square E[qqᵀ]. Along these axes the channels of
    queries are uncorrelated, so the mean of qᵀΣq over queries needs the diagonal of Σ alone.
    """
    mean_square = jnp.einsum("bnqd,bnqe->bnde", q_BNQd, q_BNQd) / q_BNQd.shape[2]
    return lax.stop_gradient(jnp.linalg.eigh(mean_square.astype(jnp.float32))[1].astype(q_BNQd.dtype))


def gap_estimate(q_BNCd: Array, k_BNFd: Array, square_BNFd: Array, share_BNCF: Array, axes_BNdd: Array) -> Array:
    """[B, N, C], nats: log Σ_f α̃_f exp(½ qᵀΣ_f q/d), an estimate of log Z − log Z̃ where groups f of keys with the
    shares α̃_f stand for their means k̄_f; keys by themselves have no Σ. Each group's mean of exp(score) is taken as a
    Gaussian's. The sum is outside of the logarithm of no group: a group of small α̃ with a large spread can hold most of
    what is missed. `square` is a group's mean of k² along the axes; off the diagonal, Σ counts as 0 there.
    """
    variance_BNFd = jnp.maximum(square_BNFd - (k_BNFd @ axes_BNdd) ** 2, 0.0)
    half_BNCF = (q_BNCd @ axes_BNdd) ** 2 @ jnp.swapaxes(variance_BNFd, 2, 3) / (2 * q_BNCd.shape[-1])
    return jnp.log1p(jnp.sum(share_BNCF * jnp.expm1(jnp.minimum(half_BNCF, LARGEST)), axis=-1))


def spread(q: Array, rows_Q: Rows, length: int) -> Array:
    """Queries in the places of their tokens, zeros elsewhere: cells are scanned over all tokens in any case."""
    if q.shape[2] == length:
        return q
    return jnp.zeros((*q.shape[:2], length, q.shape[3]), q.dtype).at[:, :, rows_Q].set(q)


def padded(x: Array, length: int) -> Array:
    return jnp.pad(x, ((0, 0), (0, 0), (0, length - x.shape[2]), (0, 0)))

"""softmax(scores) v over any length, block by block. Memory is linear in the length. Time is linear too where the prior
falls so fast that far keys cannot matter, whatever their content.

In shapes, C is the queries of a chunk, K the keys of a block and M the number of chunks or of blocks.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from windtunnel.models.fused import fused, refusal
from windtunnel.models.score import Rows, Score, content, scores

CHUNK = 512  # the queries of a chunk, and the keys of a block
NEGLIGIBLE = 1e-6  # the share of a query's total mass that may be skipped


@partial(jax.tree_util.register_dataclass, data_fields=["skipped_B", "mass_B"], meta_fields=["kernel"])
@dataclass(frozen=True)
class Reading:
    """How attention was computed: by which kernel, which share of the blocks with visible keys was skipped, and an
    upper bound on the share of a query's mass in them.
    """

    kernel: str
    skipped_B: Array
    mass_B: Array


def attend(q: Array, k: Array, v: Array, rows_Q: Rows, score: Score) -> tuple[Array, Reading]:
    """[B, N, Q, d]: softmax(scores) v of sharpened queries at the ascending tokens `rows_Q`; and how it was
    computed.
    """
    backend, keys = jax.default_backend(), k.shape[2]
    refused = refusal(backend, q.dtype, q.shape, keys, score.position.has_bias, CHUNK)
    none_B = jnp.zeros(q.shape[0])
    if refused is None:
        return fused(q, k, v, score), Reading("fused", none_B, none_B)
    why = f" (not fused: {refused})" if backend == "gpu" else ""
    if keys <= CHUNK:
        return whole(q, k, v, rows_Q, score), Reading(f"whole{why}", none_B, none_B)
    context_BNQd, skipped_B, mass_B = in_blocks(q, k, v, jnp.asarray(rows_Q), score)
    return context_BNQd, Reading(f"blocked{why}", skipped_B, mass_B)


def whole(q: Array, k: Array, v: Array, rows_Q: Rows, score: Score) -> Array:
    """softmax(scores) v computed directly, with all scores of a chunk of queries in memory."""

    def chunk(q: Array, rows_Q: Rows) -> Array:
        return (jax.nn.softmax(scores(q, k, rows_Q, score), axis=-1) @ v).astype(q.dtype)

    queries = q.shape[2]
    if queries <= CHUNK:
        return chunk(q, rows_Q)
    even = -(-queries // -(-queries // CHUNK))
    return joined(
        lax.map(lambda queries_and_rows: chunk(*queries_and_rows), chunks(q, jnp.asarray(rows_Q), even)), queries
    )


class Running(NamedTuple):
    """The softmax of a chunk of queries over the keys seen so far, the nearest first. `left` is the number of blocks of
    keys not yet seen, `top_BNC` the largest score, `total_BNC` the sum of exp(score − top) and `sum_BNCd` the sum of
    exp(score − top) v.
    """

    left: Array
    top_BNC: Array
    total_BNC: Array
    sum_BNCd: Array


@jax.custom_vjp
def in_blocks(q: Array, k: Array, v: Array, rows_Q: Array, score: Score) -> tuple[Array, Array, Array]:
    """softmax(scores) v; the share [B] of blocks that were skipped, and a bound [B] on the share of mass in them.

    A chunk of queries visits its blocks of keys from the diagonal outwards. Say the keys visited so far have the mass
    Z_i = Σ exp(score_ij), the others are at distance δ or more, and κ is the largest norm among them. The chunk is done
    when for each of its queries

        Σ_{d ≥ δ} exp(log p(d) + |f_i q_i| κ / √d_head) ≤ 10⁻⁶ Z_i,

    since by the Cauchy–Schwarz inequality the left side bounds the mass of the other keys. This needs log p as a table
    (`Score.stationary`).
    """
    length, blocks = k.shape[2], -(-k.shape[2] // CHUNK)
    k, v = (jnp.pad(x, ((0, 0), (0, 0), (0, blocks * CHUNK - length), (0, 0))) for x in (k, v))
    block_lengths = jnp.linalg.norm(k.astype(jnp.float32), axis=-1).reshape(*k.shape[:2], blocks, CHUNK)
    longest_BNM = lax.cummax(jnp.max(block_lengths, axis=-1), axis=2) / jnp.sqrt(q.shape[-1])
    table_NT = score.table() if score.stationary else None
    dtype = jnp.promote_types(q.dtype, jnp.float32)

    def prior(rows_C: Array, key_at: Array) -> Array | None:
        if table_NT is None:
            return score.log_prior(rows_C, key_at)
        return score.weighed(table_NT[:, jnp.clip(rows_C[:, None] - key_at[None], 0, length - 1)], rows_C)

    def chunk(queries: tuple[Array, Array]) -> tuple[Array, Array, Array, Array]:
        q, rows_C = queries
        visible = rows_C[-1] // CHUNK + 1
        tail_NT = None if table_NT is None or score.every else log_tail(table_NT, rows_C, score)
        norm_BNC = jnp.linalg.norm(q.astype(jnp.float32), axis=-1)

        def log_share_left(seen: Running) -> Array:
            """The bound as a share of the mass seen, for the query with the largest share."""
            assert tail_NT is not None
            nearest_C = jnp.clip(rows_C - seen.left * CHUNK + 1, 0, length - 1)
            log_left_BNC = tail_NT[None, :, nearest_C] + norm_BNC * longest_BNM[:, :, seen.left - 1, None]
            return jnp.max(log_left_BNC - seen.top_BNC - jnp.log(seen.total_BNC))

        def goes_on(seen: Running) -> Array:
            if tail_NT is None:
                return seen.left > 0
            return (seen.left > 0) & ~(log_share_left(seen) <= jnp.log(NEGLIGIBLE))  # NaN: visit the next block

        def see(seen: Running) -> Running:
            start = (seen.left - 1) * CHUNK
            key_at = start + jnp.arange(CHUNK)
            k_block, v_block = (lax.dynamic_slice_in_dim(x, start, CHUNK, axis=2) for x in (k, v))
            score_BNCK, prior_NCK = content(q, k_block), prior(rows_C, key_at)
            score_BNCK = score_BNCK if prior_NCK is None else score_BNCK + prior_NCK[None]
            score_BNCK = jnp.where((key_at[None] <= rows_C[:, None])[None, None], score_BNCK, -jnp.inf)
            top_BNC = jnp.maximum(seen.top_BNC, jnp.max(score_BNCK, axis=-1))
            weight_BNCK, rescale_BNC = jnp.exp(score_BNCK - top_BNC[..., None]), jnp.exp(seen.top_BNC - top_BNC)
            return Running(
                seen.left - 1,
                top_BNC,
                seen.total_BNC * rescale_BNC + jnp.sum(weight_BNCK, axis=-1),
                seen.sum_BNCd * rescale_BNC[..., None] + weight_BNCK @ v_block.astype(dtype),
            )

        lowest = jnp.full(q.shape[:3], jnp.finfo(dtype).min, dtype)  # not −∞, since a query may see no key of a block
        nothing = Running(visible, lowest, jnp.zeros_like(lowest), jnp.zeros((*q.shape[:3], v.shape[-1]), dtype))
        seen = lax.while_loop(goes_on, see, nothing)
        mass = jnp.zeros(()) if tail_NT is None else jnp.where(seen.left > 0, jnp.exp(log_share_left(seen)), 0.0)
        return (seen.sum_BNCd / seen.total_BNC[..., None]).astype(q.dtype), seen.left, visible, mass

    out, left_C, visible_C, mass_C = lax.map(chunk, chunks(q, rows_Q, min(CHUNK, q.shape[2])))
    skipped_B, mass_B = (
        jnp.full(q.shape[0], share) for share in (jnp.sum(left_C) / jnp.sum(visible_C), jnp.max(mass_C))
    )
    return joined(out, q.shape[2]), skipped_B, mass_B


def _forward(q: Array, k: Array, v: Array, rows_Q: Array, score: Score) -> Any:
    """The backward pass uses `whole`: it stores the scores anyway."""
    context_BNQd, pull = jax.vjp(lambda q, k, v, score: whole(q, k, v, rows_Q, score), q, k, v, score)
    none_B = jnp.zeros(q.shape[0])
    return (context_BNQd, none_B, none_B), pull


def _backward(pull: Any, cotangents: tuple[Array, Array, Array]) -> tuple[Any, ...]:
    d_q, d_k, d_v, d_score = pull(cotangents[0])
    return d_q, d_k, d_v, None, d_score


in_blocks.defvjp(_forward, _backward)


def log_tail(table_NT: Array, rows_C: Array, score: Score) -> Array:
    """[N or 1, T]: at distance δ an upper bound on log Σ_{d ≥ δ} exp(g_i log p(d)), for all queries of a chunk."""
    if score.inside:
        factor_NC = score.factor(rows_C)
        ends = jnp.min(factor_NC, axis=1), jnp.max(factor_NC, axis=1)  # g log p is largest at one end of g's range
        table_NT = jnp.maximum(*(end_N[:, None] * table_NT for end_N in ends))
    return lax.cumlogsumexp(table_NT, axis=1, reverse=True)


def chunks(q: Array, rows_Q: Array, size: int) -> tuple[Array, Array]:
    """Queries [M, B, N, C, d] and their tokens [M, C]; the last is repeated to fill the last chunk."""
    short = -q.shape[2] % size
    q = jnp.pad(q, ((0, 0), (0, 0), (0, short), (0, 0)), mode="edge")
    q = q.reshape(*q.shape[:2], -1, size, q.shape[-1])
    return jnp.moveaxis(q, 2, 0), jnp.pad(rows_Q, (0, short), mode="edge").reshape(-1, size)


def joined(out: Array, queries: int) -> Array:
    """[B, N, Q, d] from chunks [M, B, N, C, d]."""
    out = jnp.moveaxis(out, 0, 2)
    return out.reshape(*out.shape[:2], -1, out.shape[-1])[:, :, :queries]

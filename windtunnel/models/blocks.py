"""softmax(scores) v over any length, block by block. Memory is linear in the length, gradients included. Time is linear
too where the prior falls so fast that far keys cannot matter, whatever their content.

`attend` is the one place where exact attention may be replaced by an approximation (`inference.py`).

In shapes, C is the queries of a chunk, K the keys of a block, G the heads that are treated together, and M the number
of chunks or of blocks.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from windtunnel.models.audit import audited
from windtunnel.models.chunks import added, chunks, joined, together
from windtunnel.models.fused import fused, refusal
from windtunnel.models.inference import EXACT, Inference
from windtunnel.models.score import Rows, Score, content, floats, log_tail, scores

CHUNK = 512  # the queries of a chunk, and the keys of a block
NEGLIGIBLE = 1e-6  # the share of a query's total mass that exact attention may skip


@partial(jax.tree_util.register_dataclass, data_fields=["skipped_B", "mass_B", "certificates"], meta_fields=["kernel"])
@dataclass(frozen=True)
class Reading:
    """How attention was computed: by which kernel, which share of the blocks with visible keys was skipped, and an
    upper bound on the share of a query's mass in them (NaN where there is none). `certificates` are what an
    approximation says of its own error, {what it is: [B]} (`docs/records.md`).
    """

    kernel: str
    skipped_B: Array
    mass_B: Array
    certificates: dict[str, Array] = field(default_factory=dict)


def attend(
    q: Array, k: Array, v: Array, rows_Q: Rows, score: Score, inference: Inference = EXACT, codebook: Any = None
) -> tuple[Array, Reading]:
    """[B, N, Q, d]: softmax(scores) v of sharpened queries at the ascending tokens `rows_Q`; and how it was
    computed.
    """
    backend, keys = jax.default_backend(), k.shape[2]
    exact = ""
    if inference != EXACT:
        why = inference.refusal(score.position, score.inside)
        why = f"{keys} tokens are not above {inference.above}" if keys <= inference.above else why
        if why is None:
            return approximated(q, k, v, rows_Q, score, inference, codebook)
        exact = f" (not {inference.name}: {why})"
    refused = refusal(backend, q.dtype, q.shape, keys, score.position.has_bias, CHUNK)
    none_B = jnp.zeros(q.shape[0])
    if refused is None:
        return fused(q, k, v, score), Reading(f"fused{exact}", none_B, none_B)
    why = f" (not fused: {refused})" if backend == "gpu" else ""
    if keys <= CHUNK:
        return whole(q, k, v, rows_Q, score), Reading(f"whole{why}{exact}", none_B, none_B)
    context_BNQd, seen = in_blocks(q, k, v, jnp.asarray(rows_Q), score, None)
    skipped_B, mass_B = (jnp.full(q.shape[0], share) for share in (seen.skipped, seen.mass))
    return context_BNQd, Reading(f"blocked{why}{exact}", skipped_B, mass_B)


def approximated(
    q: Array, k: Array, v: Array, rows_Q: Rows, score: Score, inference: Inference, codebook: Any
) -> tuple[Array, Reading]:
    """The same by an approximation, with an audit of it."""
    answer = inference.attend(q, k, v, rows_Q, score, codebook)
    certificates = {**answer.certificates, **audited(q, k, rows_Q, score, answer.log_evidence_BNQ)}
    no_bound_B = jnp.full(q.shape[0], jnp.nan)
    mass_B = certificates.pop("mass_bound", no_bound_B)
    return answer.context_BNQd, Reading(inference.name, answer.skipped_B, mass_B, lax.stop_gradient(certificates))


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


class Seen(NamedTuple):
    """What queries have read: log Σ exp(score) over it; per head and chunk of queries the block from which on all were
    read; the share of visible blocks that were not read; and the largest bound on the share of a query's mass there.
    """

    log_evidence_BNQ: Array
    first_MN: Array
    skipped: Array
    mass: Array


class Running(NamedTuple):
    """The softmax of a chunk of queries over the keys seen so far, the nearest first. `left` is the number of blocks of
    keys not yet seen, `top_BGC` the largest score, `total_BGC` the sum of exp(score − top) and `sum_BGCd` the sum of
    exp(score − top) v.
    """

    left: Array
    top_BGC: Array
    total_BGC: Array
    sum_BGCd: Array


@jax.custom_vjp
def in_blocks(q: Array, k: Array, v: Array, rows_Q: Array, score: Score, tail_mass: Array | None) -> tuple[Array, Seen]:
    """softmax(scores) v over the keys that were read, and what they were.

    A chunk of queries visits its blocks of keys from the diagonal outwards, each head by itself where log p is a table
    (`Score.stationary`); else all keys are read. Say the keys visited so far have the mass Z_i = Σ exp(score_ij), the
    others are at distance δ or more, and κ is the largest norm among them. The chunk is done when for each of its
    queries

        Σ_{d ≥ δ} exp(log p(d) + |f_i q_i| κ / √d_head) ≤ 10⁻⁶ Z_i,

    since by the Cauchy–Schwarz inequality the left side bounds the mass of the other keys. With a `tail_mass` it is
    done when Σ_{d ≥ δ} p(d) ≤ tail_mass · Σ_d p(d): the prior mass of the others, whatever their content.
    """
    length, blocks = k.shape[2], -(-k.shape[2] // CHUNK)
    heads, tabulated = q.shape[1], score.stationary
    group = 1 if tabulated else heads
    k, v = (jnp.pad(x, ((0, 0), (0, 0), (0, blocks * CHUNK - length), (0, 0))) for x in (k, v))
    block_lengths = jnp.linalg.norm(k.astype(jnp.float32), axis=-1).reshape(*k.shape[:2], blocks, CHUNK)
    longest_BNM = lax.cummax(jnp.max(block_lengths, axis=-1), axis=2) / jnp.sqrt(q.shape[-1])
    table_NT: Any = jnp.broadcast_to(score.table(), (heads, length)) if tabulated else None
    bounded = tabulated and not score.every
    # One tail for all chunks, unless the softmax sharpens the prior: O(length) for every chunk would be quadratic.
    tail_NT: Any = log_tail(table_NT, rows_Q, score) if bounded and not score.inside else None
    dtype = jnp.promote_types(q.dtype, jnp.float32)

    def chunk(queries: tuple[Array, Array, Array]) -> tuple[Array, Array, Array, Array, Array]:
        q, rows_C, head = queries
        visible = rows_C[-1] // CHUNK + 1
        own = score.of_heads(head, group)
        own_G1 = head + jnp.arange(group)[:, None]
        own_tail_GT = None
        if bounded and score.inside:
            own_tail_GT = log_tail(lax.dynamic_slice_in_dim(table_NT, head, group), rows_C, own)
        norm_BGC = jnp.linalg.norm(q.astype(jnp.float32), axis=-1)

        def nearest(seen: Running) -> Array:
            """[C]: the distance to the nearest key that is left; 0 where no key has been read."""
            return jnp.clip(rows_C - seen.left * CHUNK + 1, 0, length - 1)

        def log_tail_from(distance_C: Array) -> Array:
            """[G, C]: log of the prior mass at these distances and beyond."""
            return tail_NT[own_G1, distance_C[None]] if own_tail_GT is None else own_tail_GT[:, distance_C]

        def log_share_left(seen: Running) -> Array:
            """The bound as a share of the mass seen, for the query with the largest share."""
            longest_BG1 = lax.dynamic_slice(longest_BNM, (0, head, seen.left - 1), (len(q), group, 1))
            log_left_BGC = log_tail_from(nearest(seen))[None] + norm_BGC * longest_BG1
            return jnp.max(log_left_BGC - seen.top_BGC - jnp.log(seen.total_BGC))

        def goes_on(seen: Running) -> Array:
            if not bounded:
                return seen.left > 0
            if tail_mass is None:
                return (seen.left > 0) & ~(log_share_left(seen) <= jnp.log(NEGLIGIBLE))  # NaN: visit the next block
            log_share_GC = log_tail_from(nearest(seen)) - log_tail_from(jnp.zeros(1, int))
            return (seen.left > 0) & ~(jnp.max(log_share_GC) <= jnp.log(tail_mass))

        def see(seen: Running) -> Running:
            start = (seen.left - 1) * CHUNK
            key_at = start + jnp.arange(CHUNK)
            k_block, v_block = (
                lax.dynamic_slice(x, (0, head, start, 0), (len(q), group, CHUNK, x.shape[-1])) for x in (k, v)
            )
            score_BGCK = content(q, k_block)
            if table_NT is not None:
                distance_CK = jnp.clip(rows_C[:, None] - key_at[None], 0, length - 1)
                score_BGCK = score_BGCK + own.weighed(table_NT[own_G1[..., None], distance_CK[None]], rows_C)[None]
            elif (prior_NCK := score.log_prior(rows_C, key_at)) is not None:
                score_BGCK = score_BGCK + prior_NCK[None]
            score_BGCK = jnp.where((key_at[None] <= rows_C[:, None])[None, None], score_BGCK, -jnp.inf)
            top_BGC = jnp.maximum(seen.top_BGC, jnp.max(score_BGCK, axis=-1))
            weight_BGCK, rescale_BGC = jnp.exp(score_BGCK - top_BGC[..., None]), jnp.exp(seen.top_BGC - top_BGC)
            return Running(
                seen.left - 1,
                top_BGC,
                seen.total_BGC * rescale_BGC + jnp.sum(weight_BGCK, axis=-1),
                seen.sum_BGCd * rescale_BGC[..., None] + weight_BGCK @ v_block.astype(dtype),
            )

        lowest = jnp.full(q.shape[:3], jnp.finfo(dtype).min, dtype)  # not −∞, since a query may see no key of a block
        nothing = Running(visible, lowest, jnp.zeros_like(lowest), jnp.zeros((*q.shape[:3], v.shape[-1]), dtype))
        seen = lax.while_loop(goes_on, see, nothing)
        mass = jnp.zeros(()) if not bounded else jnp.where(seen.left > 0, jnp.exp(log_share_left(seen)), 0.0)
        context_BGCd = (seen.sum_BGCd / seen.total_BGC[..., None]).astype(q.dtype)
        return context_BGCd, seen.top_BGC + jnp.log(seen.total_BGC), seen.left, visible, mass

    q_MBNCd, rows_MC = chunks(q, rows_Q, min(CHUNK, q.shape[2]))

    def all_heads(queries: tuple[Array, Array]) -> Any:
        q_BNCd, rows_C = queries
        q_HBGCd = jnp.moveaxis(q_BNCd.reshape(len(q), -1, group, *q_BNCd.shape[2:]), 1, 0)
        first_H = jnp.arange(0, heads, group)
        out, log_z, *facts = lax.map(lambda of_heads: chunk((of_heads[0], rows_C, of_heads[1])), (q_HBGCd, first_H))
        return together(out), together(log_z), *facts

    out, log_z, first_MH, visible_MH, mass_MH = lax.map(all_heads, (q_MBNCd, rows_MC))
    first_MN = jnp.repeat(first_MH, group, axis=1)
    seen = Seen(
        joined(log_z[..., None], q.shape[2])[..., 0],
        first_MN,
        jnp.sum(first_MH) / jnp.sum(visible_MH),
        jnp.max(mass_MH),
    )
    return joined(out, q.shape[2]), seen


def _forward(q: Array, k: Array, v: Array, rows_Q: Array, score: Score, tail_mass: Array | None) -> Any:
    out, seen = in_blocks(q, k, v, rows_Q, score, tail_mass)
    return (out, seen), (q, k, v, rows_Q, score, tail_mass, out, seen)


def _backward(kept: Any, cotangents: tuple[Array, Seen]) -> tuple[Any, ...]:
    """The gradient of the softmax over the blocks that were read, whose weights are computed once more, a block at a
    time, instead of being kept: with w = exp(score − log Z) and u the gradient of the context, ∂L/∂v_j = Σ_i w_ij u_i
    and ∂L/∂score_ij = w_ij (u_i·v_j − u_i·context_i). Dao et al. 2022. What stops the reading counts as constant.
    """
    q, k, v, rows_Q, score, tail_mass, out, seen = kept
    length, blocks = k.shape[2], -(-k.shape[2] // CHUNK)
    size, dtype = min(CHUNK, q.shape[2]), jnp.promote_types(q.dtype, jnp.float32)
    knobs, rebuilt = floats(score)
    padded_k, padded_v = (jnp.pad(x, ((0, 0), (0, 0), (0, blocks * CHUNK - length), (0, 0))) for x in (k, v))
    q_MBNCd, rows_MC = chunks(q, rows_Q, size)
    # The copies that fill the last chunk have no gradient.
    u_MBNCd, out_MBNCd = (chunks(x.astype(dtype), rows_Q, size, mode="constant")[0] for x in (cotangents[0], out))
    log_z_MBNC1 = chunks(seen.log_evidence_BNQ[..., None], rows_Q, size)[0]

    def chunk(totals: tuple[Array, Array, Any], of_chunk: tuple[Array, ...]) -> Any:
        q, u, out, log_z_BNC1, rows_C, first_N = of_chunk
        mean_BNC1 = jnp.sum(u * out, axis=-1, keepdims=True)

        def block(index: Array, sums: Any) -> Any:
            d_q, d_k, d_v, d_knobs = sums
            start = index * CHUNK
            key_at = start + jnp.arange(CHUNK)
            k_block, v_block = (lax.dynamic_slice_in_dim(x, start, CHUNK, axis=2) for x in (padded_k, padded_v))

            def masked(q: Array, k_block: Array, knobs: list[Array]) -> Array:
                prior_NCK = rebuilt(knobs).log_prior(rows_C, key_at)
                total = content(q, k_block) if prior_NCK is None else content(q, k_block) + prior_NCK[None]
                read = (key_at[None, None] <= rows_C[None, :, None]) & (index >= first_N)[:, None, None]
                return jnp.where(read[None], total, -jnp.inf)

            score_BNCK, pull = jax.vjp(masked, q, k_block, knobs)
            weight_BNCK = jnp.exp(score_BNCK - log_z_BNC1)
            d_score = weight_BNCK * (u @ jnp.swapaxes(v_block.astype(dtype), 2, 3) - mean_BNC1)
            of_q, of_k, of_knobs = pull(d_score)
            return (
                d_q + of_q,
                added(d_k, of_k, start),
                added(d_v, jnp.swapaxes(weight_BNCK, 2, 3) @ u, start),
                jax.tree.map(jnp.add, d_knobs, of_knobs),
            )

        sums = (jnp.zeros(q.shape, dtype), *totals)
        d_q, *others = lax.fori_loop(jnp.min(first_N), rows_C[-1] // CHUNK + 1, block, sums)
        return tuple(others), d_q

    zeros = jnp.zeros(padded_k.shape, dtype), jnp.zeros(padded_v.shape, dtype), jax.tree.map(jnp.zeros_like, knobs)
    by_chunk = q_MBNCd, u_MBNCd, out_MBNCd, log_z_MBNC1, rows_MC, seen.first_MN
    (d_k, d_v, d_knobs), d_q = lax.scan(chunk, zeros, by_chunk)
    d_k, d_v = d_k[:, :, :length].astype(k.dtype), d_v[:, :, :length].astype(v.dtype)
    none = None if tail_mass is None else jnp.zeros_like(tail_mass)
    return joined(d_q, q.shape[2]).astype(q.dtype), d_k, d_v, None, rebuilt(d_knobs, gradient=True), none


in_blocks.defvjp(_forward, _backward)

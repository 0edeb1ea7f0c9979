"""The score of a query and a key before the softmax: content (the likelihood) plus position (the prior), in float32."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from windtunnel.models.position import Parameters, Position

QUERIES = 512  # of which the evidence is computed at once
Rows = Array | np.ndarray  # indices of tokens; numpy where they are known at compile time


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["position", "learned", "positions_T", "sharpness_N"],
    meta_fields=["heads", "inside", "every"],
)
@dataclass(frozen=True)
class Score:
    """score_ij = f_i q_i·k_j/√d + g_i log p(position): f = g = 1 (plain), or with the scalable softmax of Nakanishi
    2025 f_i = s_h ln n_i, where query i sees n_i keys and s_h (`sharpness_N`) is learned per head. The prior is then
    `inside` (g = f) or outside (g = 1). With `every`, no key may be skipped, however little it weighs: what is skipped
    depends on other queries too.
    """

    position: Position
    learned: Parameters
    positions_T: Array
    sharpness_N: Array | None
    heads: int
    inside: bool
    every: bool = False

    def sharpened(self, q_BNQd: Array, rows_Q: Rows) -> Array:
        """[B, N, Q, d]: f_i q_i, after which the content needs no further factor."""
        if self.sharpness_N is None:
            return q_BNQd
        return q_BNQd * self.factor(rows_Q)[None, :, :, None].astype(q_BNQd.dtype)

    def of_heads(self, first: Array, count: int) -> "Score":
        """The score of `count` heads only, as far as `factor` and `weighed` go."""
        if self.sharpness_N is None:
            return self
        return replace(self, sharpness_N=lax.dynamic_slice_in_dim(self.sharpness_N, first, count))

    def factor(self, rows_Q: Rows) -> Array:
        """[N, Q]: s_h ln n_i."""
        assert self.sharpness_N is not None
        return self.sharpness_N[:, None] * jnp.log1p(jnp.asarray(rows_Q, jnp.float32))[None]

    def weighed(self, prior_NQK: Array, rows_Q: Rows) -> Array:
        """g_i log p"""
        return prior_NQK * self.factor(rows_Q)[:, :, None] if self.inside else prior_NQK

    def log_prior(self, rows_Q: Rows, key_at: Array) -> Array | None:
        """[N or 1, Q, K]: g_i log p, or None where it is zero."""
        return self.weighed(self._bias(rows_Q, key_at), rows_Q) if self.position.has_bias else None

    @property
    def stationary(self) -> bool:
        """Whether log p is a table over distance."""
        return self.position.tabulated

    def table(self) -> Array:
        """[N or 1, T]: log p of the distances 0 … T−1; for a stationary score only."""
        length = len(self.positions_T)
        return self._bias(jnp.asarray([length - 1]), jnp.arange(length))[:, 0, ::-1]

    def _bias(self, rows_Q: Rows, key_at: Array) -> Array:
        precise = jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), self.learned)
        bias = self.position.bias(precise, self.heads, self.positions_T[rows_Q], self.positions_T[key_at])
        assert bias is not None  # callers check `has_bias`
        return bias


def log_evidence(q: Array, k: Array, score: Score) -> Array:
    """[B, N, T]: log Σ_{j≤i} π_ij exp(c_ij) with content c and the prior π_i· of each head normalised over the keys
    that query i sees. All queries are given, sharpened; they are treated a few at a time, so that memory is linear in
    the length.
    """
    length = k.shape[2]
    key_at, size = jnp.arange(length), min(length, QUERIES)

    def chunk(queries: tuple[Array, Array]) -> Array:
        q_BNCd, rows_C = queries
        prior_NCT = score.log_prior(rows_C, key_at)
        prior_NCT = jnp.zeros((q.shape[1], len(rows_C), length)) if prior_NCT is None else prior_NCT
        prior_NCT = jnp.where((key_at[None] <= rows_C[:, None])[None], prior_NCT, -jnp.inf)
        log_pi_NCT = jax.nn.log_softmax(prior_NCT, axis=-1)
        return jax.nn.logsumexp(content(q_BNCd, k) + log_pi_NCT[None], axis=-1)

    padded = jnp.pad(q, ((0, 0), (0, 0), (0, -length % size), (0, 0)))
    q_MBNCd = jnp.moveaxis(padded.reshape(*q.shape[:2], -1, size, q.shape[-1]), 2, 0)
    rows_MC = jnp.pad(key_at, (0, -length % size), mode="edge").reshape(-1, size)
    out_MBNC = lax.map(chunk, (q_MBNCd, rows_MC))
    return jnp.moveaxis(out_MBNC, 0, 2).reshape(*q.shape[:2], -1)[..., :length]


def content(q: Array, k: Array) -> Array:
    """[B, N, Q, K]: q·k/√d."""
    dtype = jnp.promote_types(q.dtype, jnp.float32)
    return jnp.einsum("bnqd,bnkd->bnqk", q, k, preferred_element_type=dtype) / jnp.sqrt(q.shape[-1]).astype(dtype)


def scores(q: Array, k: Array, rows_Q: Rows, score: Score) -> Array:
    """[B, N, Q, T]: the scores of sharpened queries; −inf for keys after the query."""
    key_at = jnp.arange(k.shape[2])
    prior_NQT = score.log_prior(rows_Q, key_at)
    total = content(q, k) if prior_NQT is None else content(q, k) + prior_NQT[None]
    return jnp.where((key_at[None, :] <= rows_Q[:, None])[None, None], total, -jnp.inf)


def floats(score: Score) -> tuple[list[Array], Any]:
    """The leaves of a score that have gradients, and how a score (or its gradient) is built from values for these."""
    leaves, structure = jax.tree.flatten(score)
    smooth = [jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in leaves]

    def rebuilt(values: list[Array], gradient: bool = False) -> Score:
        rest = iter(values)
        return structure.unflatten(
            [
                next(rest) if is_float else (None if gradient else leaf)
                for leaf, is_float in zip(leaves, smooth, strict=True)
            ]
        )

    return [jnp.asarray(leaf) for leaf, is_float in zip(leaves, smooth, strict=True) if is_float], rebuilt


def log_tail(table_NT: Array, rows_C: Array, score: Score) -> Array:
    """[N or 1, T]: at distance δ an upper bound on log Σ_{d ≥ δ} exp(g_i log p(d)), for all queries of a chunk."""
    if score.inside:
        factor_NC = score.factor(rows_C)
        ends = jnp.min(factor_NC, axis=1), jnp.max(factor_NC, axis=1)  # g log p is largest at one end of g's range
        table_NT = jnp.maximum(*(end_N[:, None] * table_NT for end_N in ends))
    return lax.cumlogsumexp(table_NT, axis=1, reverse=True)

"""Queries a chunk at a time, and what is put together of chunks again.

In shapes, M is the chunks, C the queries of one, H the heads of a group and G the queries of all.
"""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


def chunks(q: Array, rows_Q: Array, size: int, mode: Any = "edge") -> tuple[Array, Array]:
    """Queries [M, B, N, C, d] and their tokens [M, C]; the last is repeated to fill the last chunk, or by `mode` zeros
    are.
    """
    short = -q.shape[2] % size
    q = jnp.pad(q, ((0, 0), (0, 0), (0, short), (0, 0)), mode=mode)
    q = q.reshape(*q.shape[:2], -1, size, q.shape[-1])
    return jnp.moveaxis(q, 2, 0), jnp.pad(rows_Q, (0, short), mode="edge").reshape(-1, size)


def joined(out: Array, queries: int) -> Array:
    """[B, N, Q, d] from chunks [M, B, N, C, d]."""
    out = jnp.moveaxis(out, 0, 2)
    return out.reshape(*out.shape[:2], -1, out.shape[-1])[:, :, :queries]


def together(out_HBG: Array) -> Array:
    """[B, N, …] from groups of heads [H, B, G, …]."""
    out_BHG = jnp.moveaxis(out_HBG, 0, 1)
    return out_BHG.reshape(len(out_BHG), -1, *out_BHG.shape[3:])


def added(total_BNTd: Array, part_BNKd: Array, start: Array) -> Array:
    """`total` with `part` added to the tokens from `start` on."""
    before = lax.dynamic_slice_in_dim(total_BNTd, start, part_BNKd.shape[2], axis=2)
    return lax.dynamic_update_slice_in_dim(total_BNTd, before + part_BNKd.astype(total_BNTd.dtype), start, axis=2)

"""Causal attention with a positional prior in its score: α_ij ∝ exp(q_i·k_j / √d + log p(position))."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array

from windtunnel.models.position import Position

Rows = Array | np.ndarray  # which tokens; as numpy where they are known beforehand
CHUNK = 256  # queries at once: memory is CHUNK × T a head, linear in the length

Tap = Callable[[str, Any], Any]  # tap(name, value) -> value: how everything else looks in or intervenes
Bias = Callable[[Rows, Array], Array | None]


def no_tap(name: str, value: Any) -> Any:
    return value


class Attention(nnx.Module):
    """Multi-head attention; separate projections, so that routing (Q, K) and content (V, O) can be told apart."""

    def __init__(self, width: int, heads: int, position: Position, length: int, rngs: nnx.Rngs):
        self.heads = heads
        self.position = nnx.data(position)
        self.learned = nnx.Dict(
            {name: nnx.Param(value) for name, value in position.parameters(rngs(), heads, width, length).items()}
        )
        self.query, self.key, self.value, self.output = (
            nnx.Linear(width, width, use_bias=False, rngs=rngs) for _ in range(4)
        )

    def learned_parameters(self) -> dict[str, Array]:
        return {name: parameter[...] for name, parameter in self.learned.items()}

    def __call__(self, x_BTD: Array, positions_T: Array, rows_Q: Rows, tapped_P: Rows | None, tap: Tap) -> Array:
        """[B, Q, D]: what attention adds at the tokens `rows_Q`; with a tap, its rows at `tapped_P` are shown to it."""
        batch, _, width = x_BTD.shape
        learned = self.learned_parameters()

        def project(linear: nnx.Linear, x: Array) -> Array:  # tokens flat, heads first: 2 to 5 times faster on a CPU
            y = linear(x.reshape(-1, width)).reshape(batch, -1, self.heads, width // self.heads)
            return y.transpose(0, 2, 1, 3)

        def bias(query_at: Rows, key_at: Array) -> Array | None:
            return self.position.bias(learned, self.heads, positions_T[query_at], positions_T[key_at])

        q = self.position.rotate(learned, project(self.query, take(x_BTD, rows_Q)), positions_T[rows_Q])
        k = self.position.rotate_keys(learned, project(self.key, x_BTD), positions_T)
        q, k, v = tap("queries", q), tap("keys", k), tap("values", project(self.value, x_BTD))
        context_BNQd = attend(q, k, v, rows_Q, bias)
        if tapped_P is not None:
            here_P = jnp.searchsorted(rows_Q, tapped_P)
            scores_BNPT = tap("scores", scores(q[:, :, here_P], k, tapped_P, bias))
            attention_BNPT = tap("attention", jax.nn.softmax(scores_BNPT, axis=-1))
            context_BNQd = context_BNQd.at[:, :, here_P].set(attention_BNPT @ v)
        context_BNQd = tap("context", context_BNQd)
        flat = context_BNQd.transpose(0, 2, 1, 3).reshape(-1, width)
        return self.output(flat).reshape(batch, -1, width)


def take(x_BTD: Array, rows: Rows) -> Array:
    """x[:, rows]; evenly spaced rows known beforehand are a slice, whose gradient is not a (slow) scatter."""
    if isinstance(rows, np.ndarray) and len(rows) and len(set(np.diff(rows))) <= 1:
        return x_BTD[:, rows[0] : rows[-1] + 1 : rows[1] - rows[0] if len(rows) > 1 else 1]
    return x_BTD[:, rows]


def scores(q: Array, k: Array, rows_Q: Rows, bias: Bias) -> Array:
    """[B, N, Q, T]: q·k/√d plus the log-prior, −inf for keys after the query."""
    key_at = jnp.arange(k.shape[2])
    content = jnp.einsum("bnqd,bnkd->bnqk", q, k) / jnp.sqrt(q.shape[-1]).astype(q.dtype)
    prior = bias(rows_Q, key_at)
    total = content if prior is None else content + prior[None]
    return jnp.where((key_at[None, :] <= rows_Q[:, None])[None, None], total, -jnp.inf)


def attend(q: Array, k: Array, v: Array, rows_Q: Rows, bias: Bias, chunk: int | None = None) -> Array:
    """[B, N, Q, d]: softmax(scores) v, `chunk` queries at a time."""

    def block(q: Array, rows_Q: Rows) -> Array:
        return jax.nn.softmax(scores(q, k, rows_Q, bias), axis=-1) @ v

    chunk = chunk or CHUNK
    count = q.shape[2]
    if count <= chunk:
        return block(q, rows_Q)
    blocks = -(-count // chunk)
    padding = blocks * chunk - count
    q_blocks = jnp.pad(q, ((0, 0), (0, 0), (0, padding), (0, 0))).reshape(*q.shape[:2], blocks, chunk, -1)
    rows_blocks = jnp.pad(rows_Q, (0, padding)).reshape(blocks, chunk)
    out = lax.map(lambda block_: block(*block_), (jnp.moveaxis(q_blocks, 2, 0), rows_blocks))
    return jnp.moveaxis(out, 0, 2).reshape(*q.shape[:2], blocks * chunk, -1)[:, :, :count]

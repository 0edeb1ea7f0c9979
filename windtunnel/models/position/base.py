"""What every positional prior is, by contract."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

Parameters = dict[str, Array]  # what is learned of a layer's positional prior


class Position:
    """The contract, and the position that knows nothing."""

    @property
    def name(self) -> str:
        raise NotImplementedError

    stationary = False  # whether its bias depends on distance alone, so that one row of it says all

    @property
    def has_bias(self) -> bool:
        """Whether it adds something to the score."""
        return type(self).bias is not Position.bias

    def bound(self, width: int, length: int) -> Any:
        """The position inside a model of width D trained on `length` tokens: itself, unless it must know of these."""
        return self

    def conflict(self, head: int, length: int) -> str | None:
        """What is wrong with it for heads of width `head` that are evaluated on `length` tokens, as it goes on after
        the position's key: `=rope: …` or `.range=…: …`; None where all is well.
        """
        return None

    def parameters(self, key: Array, heads: int, width: int, length: int) -> Parameters:
        """What is learned, at its start, for a layer of N heads and width D trained on `length` tokens."""
        return {}

    def positions(self, key: Array | None, length: int) -> Array:
        """[T], or [T, …] of what `embed`, `rotate` and `bias` must know: where the tokens are. `key` is given while
        training and None in evaluation.
        """
        return jnp.arange(length)

    def embed(self, learned: Parameters, positions: Array) -> Array | None:
        """[T, D]: added to the embeddings, or None."""
        return None

    def rotate(self, learned: Parameters, x: Array, positions: Array) -> Array:
        """[B, N, T, d] → [B, N, T, d]: queries as attention sees them."""
        return x

    def rotate_keys(self, learned: Parameters, x: Array, positions: Array) -> Array:
        """The same for keys."""
        return self.rotate(learned, x, positions)

    def bias(self, learned: Parameters, heads: int, query_at: Array, key_at: Array) -> Array | None:
        """[N or 1, Q, K]: the log-prior added to the attention score, or None where it is zero."""
        return None


def distance(query_at: Array, key_at: Array) -> Array:
    """[Q, K]: |i − j| as a float."""
    return jnp.abs(query_at[:, None] - key_at[None, :]).astype(jnp.result_type(float))

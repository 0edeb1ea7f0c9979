"""The contract of positional priors."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

Parameters = dict[str, Array]  # the learned parameters of a layer's positional prior


class Position:
    """The contract. Its defaults use no position at all."""

    @property
    def name(self) -> str:
        raise NotImplementedError

    flat_beyond: int | None = None  # the distance from which on the bias is constant; None where it never is
    stationary = False  # whether the bias depends on distance alone, so that one row of it determines all others

    @property
    def has_bias(self) -> bool:
        """Whether the position adds something to the score."""
        return type(self).bias is not Position.bias

    @property
    def tabulated(self) -> bool:
        """Whether the bias is a table over distance: it depends on distance alone, and the positions are 0, 1, 2, …"""
        return self.has_bias and self.stationary and type(self).positions is Position.positions

    @property
    def rotates(self) -> bool:
        """Whether queries and keys are rotated, or changed otherwise, by where they are."""
        return type(self).rotate is not Position.rotate or type(self).rotate_keys is not Position.rotate_keys

    def bound(self, width: int, length: int) -> Any:
        """The position for a model of width D trained on `length` tokens: itself, unless it needs these numbers."""
        return self

    def conflict(self, head: int, length: int) -> str | None:
        """Why the position does not work with heads of width `head` evaluated on `length` tokens; None if it does. The
        text follows the position's key in the message: `=rope: …` or `.range=…: …`.
        """
        return None

    def parameters(self, key: Array, heads: int, width: int, length: int) -> Parameters:
        """The initial parameters for a layer of N heads and width D trained on `length` tokens."""
        return {}

    def positions(self, key: Array | None, length: int) -> Array:
        """[T], or [T, …]: the positions of the tokens, in the form that `embed`, `rotate` and `bias` take. `key` is
        given in training and None in evaluation.
        """
        return jnp.arange(length)

    def embed(self, learned: Parameters, positions: Array) -> Array | None:
        """[T, D], added to the embeddings; or None."""
        return None

    def rotate(self, learned: Parameters, x: Array, positions: Array) -> Array:
        """[B, N, T, d] → [B, N, T, d]: the queries that attention uses."""
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

"""Markov chains that are seen through noise: their rows, draws from them, and how fast a filter on one forgets.

In the shapes of this file, S is the hidden states, O the symbols and V the entries of a row.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

FLOOR = 5  # the smallest entry of a header of tokens, in hundredths
GRAIN = 2**14  # the whole that gaps of a row are parts of, before they are hundredths
STEPS, BURN = 20_000, 100  # symbols that Lyapunov exponents are measured over, and those before that are left out


class Chain(NamedTuple):
    """Probabilities: `transition` [B, S, S] from row to column, `emission` [B, S, O]."""

    transition: Array
    emission: Array


def normalised(weights: Array) -> Array:
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


def hundredths(weights: Array) -> Array:
    """Rows of whole weights that sum to GRAIN, as whole hundredths, none below the floor, that sum to 100: what is
    above the floor shares what the floor leaves, and the hundredths lost to rounding down go to the largest remainders.
    No outcome is favoured.

    In whole numbers throughout: XLA computes a floor of floats once here and once there, and where it rounds otherwise
    the second time a row sums to 101 (in 8 of 2,000 headers of three states, in float64, under jit).
    """
    left = 100 - FLOOR * weights.shape[-1]
    above = jnp.maximum(100 * weights - FLOOR * GRAIN, 0)
    total = jnp.sum(above, axis=-1, keepdims=True)
    whole, remainder = above * left // total, above * left % total
    missing = left - jnp.sum(whole, axis=-1, keepdims=True)
    rank = jnp.argsort(jnp.argsort(-remainder, axis=-1), axis=-1)  # of the remainders, the largest first
    return FLOOR + whole + (rank < missing)


def draws(rows_BSV: Array, level_BT: Array) -> Array:
    """int32[B, T, S]: a draw from each row by the inverse of its cumulative sum, at levels uniform in [0, 1)."""
    total_BSV = jnp.cumsum(rows_BSV, axis=-1)
    passed_BTSV = total_BSV[:, None] <= level_BT[..., None, None] * total_BSV[:, None, :, -1:]
    return jnp.sum(passed_BTSV, axis=-1, dtype=jnp.int32)


def chosen(entries: Array, index: Array) -> Array:
    """entries[…, index], computed with a mask, since a gather of single numbers is slow."""
    is_index = jax.nn.one_hot(index, entries.shape[-1], dtype=bool)
    return jnp.sum(jnp.where(is_index, entries, 0), axis=-1, dtype=entries.dtype)


def broadcast(chain: Chain, batch: int) -> Chain:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, *leaf.shape[1:])), chain)


def forgets(transition_SS: np.ndarray, emission_SO: np.ndarray) -> float:
    """λ₁ − λ₂ in nats an observation, the gap of the Lyapunov exponents of the products of M_o = T diag(E_o) along the
    symbols that the chain emits: the rate at which a filter forgets what it believed before. Two beliefs come together
    as e^{−(λ₁−λ₂)t}, for almost every sequence, and the gap is at least ln(1/|λ₂(T)|) (Atar & Zeitouni 1997). By QR
    along one sequence; infinite where a symbol shows the state.
    """
    return _gap(tuple(map(tuple, transition_SS.tolist())), tuple(map(tuple, emission_SO.tolist())))


@lru_cache(maxsize=16)
def _gap(transition: tuple[tuple[float, ...], ...], emission: tuple[tuple[float, ...], ...]) -> float:
    transition_SS, emission_SO = np.asarray(transition), np.asarray(emission)
    generator, state, frame_S2 = np.random.default_rng(0), 0, np.eye(len(transition_SS))[:, :2]
    levels_T2 = generator.random((BURN + STEPS, 2))
    to_SS, shows_SO = transition_SS.cumsum(axis=1)[:, :-1], emission_SO.cumsum(axis=1)[:, :-1]
    total_2 = np.zeros(2)
    for step, (level, shown) in enumerate(levels_T2):
        state = int(np.searchsorted(to_SS[state], level, side="right"))
        symbol = int(np.searchsorted(shows_SO[state], shown, side="right"))
        frame_S2, stretch_22 = np.linalg.qr(emission_SO[:, symbol, None] * (transition_SS.T @ frame_S2))
        if step >= BURN:
            with np.errstate(divide="ignore"):
                total_2 += np.log(np.abs(np.diag(stretch_22)))
    return float((total_2[0] - total_2[1]) / STEPS) if np.isfinite(total_2[1]) else math.inf

"""The filter on a chain that is seen through noise: what is believed of its state before each symbol.

In the shapes of this file, S is the hidden states.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp
from jaxtyping import Array


def log_filter(log_transition_BSS: Array, log_evidence_BTS: Array) -> Array:
    """[B, T, S]: log P(z_t | o_<t), from log P(o_t | z_t) and a uniform start. The scan is sequential: on a CPU that is
    five times faster than a parallel scan over blocks, even for 32,000 observations (4 ms).
    """

    def step(log_state_B1S: Array, log_evidence_BS: Array) -> tuple[Array, Array]:
        return advance(log_state_B1S, log_evidence_BS[:, None], log_transition_BSS), log_state_B1S[:, 0]

    batch, _, states = log_evidence_BTS.shape
    log_start_B1S = jnp.full((batch, 1, states), -math.log(states))
    _, log_state_TBS = lax.scan(step, log_start_B1S, jnp.swapaxes(log_evidence_BTS, 0, 1))
    return jnp.swapaxes(log_state_TBS, 0, 1)


def advance(log_state_BPS: Array, log_evidence_BPS: Array, log_transition_BSS: Array) -> Array:
    """[B, P, S]: condition on a symbol, then take a step of the chain."""
    log_seen_BPS = jax.nn.log_softmax(log_state_BPS + log_evidence_BPS)
    return logsumexp(log_seen_BPS[..., None] + log_transition_BSS[:, None], axis=2)


def log_filter_last(log_transition_BSS: Array, log_evidence_BTS: Array, at: Array, symbols: int) -> Array:
    """[B, P, S]: the same at `at`, from the last symbols alone; before them, the state has the chain's marginal."""
    log_unseen_BTS = log_filter(log_transition_BSS, jnp.zeros_like(log_evidence_BTS))

    def step(i: Array, log_state_BPS: Array) -> Array:
        time_P = at - symbols + i
        log_evidence_BPS = log_evidence_BTS[:, jnp.maximum(time_P, 0)]
        log_next_BPS = advance(log_state_BPS, log_evidence_BPS, log_transition_BSS)
        return jnp.where((time_P >= 0)[None, :, None], log_next_BPS, log_state_BPS)

    return lax.fori_loop(0, symbols, step, log_unseen_BTS[:, jnp.maximum(at - symbols, 0)])

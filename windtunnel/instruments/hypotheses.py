"""Which tokens stand for which hypotheses, tunnel by tunnel: what lets attention and keys be held against a posterior.

`targets` says what exact inference weighs every token by; `frame` says which hypothesis a token's key stands for. A
tunnel that has no row here has no such map, and instruments that need one say so.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel.tunnels import Batch, Bijection, Hmm, Markov, Mixture, Permutation, Recall, Recurrence, Tunnel, Urn
from windtunnel.tunnels.hmm import log_filter


class Frame(NamedTuple):
    """`label_BT` is the hypothesis of each token, one of `count`, −1 where it stands for none. With `own`, hypotheses
    belong to a sequence (its stored pairs); else they are the same in all, and each has many tokens.
    """

    what: str
    label_BT: np.ndarray
    count: int
    own: bool = False


def frame(tunnel: Any, batch: Batch, log_posterior_BTS: Any = None) -> Frame | None:
    """The hypotheses that keys should tell apart: stored pairs (`recall`), keys of pairs (`bijection`, `permutation`),
    likeliest states (`hmm`), else the symbols themselves; None where tokens are points of a continuum.
    """
    inputs = np.asarray(batch.inputs)
    tokens = np.broadcast_to(np.arange(inputs.shape[1])[None], inputs.shape[:2])
    if isinstance(tunnel, Recall):
        return Frame("stored pairs", tokens, inputs.shape[1], own=True)
    if isinstance(tunnel, (Bijection, Permutation)):
        return Frame("keys", np.where((tokens % 2 == 0) & (inputs < tunnel.symbols), inputs, -1), tunnel.symbols)
    if isinstance(tunnel, Hmm):
        states = np.argmax(np.asarray(log_posterior_BTS), axis=-1)
        label_BT = np.full(inputs.shape[:2], -1)
        label_BT[:, tunnel.scored(states.shape[1])] = states
        return Frame("states", label_BT, tunnel.states)
    if isinstance(tunnel, (Urn, Markov, Recurrence, Mixture)):
        return Frame("symbols", np.where(inputs < tunnel.outcomes, inputs, -1), tunnel.outcomes)
    return None


def targets(tunnel: Tunnel, tables: Any, batch: Batch, at: Array) -> Array | None:
    """[B, P, T]: the log-weight that exact inference gives to each token at the observations `at`; a row of −∞ where no
    token counts yet; None where the posterior is no weighing of tokens.
    """
    for kind, function in TARGETS.items():
        if isinstance(tunnel, kind):
            return function(tunnel, tables, batch, at)
    return None


def _recall(tunnel: Recall, tables: Any, batch: Batch, at: Array) -> Array:
    """The posterior itself: a token is a pair."""
    return tunnel.log_posterior(tables, batch, at)


def _urn(tunnel: Urn, tables: Any, batch: Batch, at: Array) -> Array:
    """Order does not matter: all draws alike."""
    tokens = jnp.arange(batch.inputs.shape[1])
    seen_PT = (tokens[None] <= at[:, None]) & (tokens[None] > 0)
    return _even(jnp.broadcast_to(seen_PT[None], (len(batch.inputs), *seen_PT.shape)))


def _bijection(tunnel: Bijection, tables: Any, batch: Batch, at: Array) -> Array:
    """The value that the key had before; where it had none, the values that are eliminated, all alike."""
    inputs, at = batch.inputs, jnp.asarray(tunnel.scored(batch.outcome_BP.shape[1]))[at]
    tokens = jnp.arange(inputs.shape[1])
    is_value_BT = (tokens % 2 == 1)[None] & (inputs >= tunnel.symbols) & (inputs < 2 * tunnel.symbols)
    past_BPT = is_value_BT[:, None] & (tokens[None] < at[:, None])[None]
    same_BPT = past_BPT & (jnp.roll(inputs, 1, axis=1)[:, None] == inputs[:, at][:, :, None])
    known_BP1 = jnp.any(same_BPT, axis=-1, keepdims=True)
    return _even(jnp.where(known_BP1, same_BPT, past_BPT))


def _markov(tunnel: Markov, tables: Any, batch: Batch, at: Array) -> Array:
    """The symbols that have followed the present context, all alike: the counts n(b, ·)."""
    inputs, order = batch.inputs, tunnel.order
    tokens = jnp.arange(inputs.shape[1])
    at = jnp.asarray(tunnel.scored(batch.outcome_BP.shape[1]))[at]
    same_BPT = ((tokens[None] > order) & (tokens[None] <= at[:, None]))[None]
    for back in range(order):
        context_BP = inputs[:, at - back]
        same_BPT = same_BPT & (jnp.roll(inputs, back + 1, axis=1)[:, None] == context_BP[:, :, None])
    return _even(same_BPT)


def _hmm(tunnel: Hmm, tables: Any, batch: Batch, at: Array) -> Array:
    """Evidence weighed by recency: what is lost without it. w_ts ∝ KL(P(z_t | all seen) ‖ P(z_t | all but o_s))."""
    observations = batch.outcome_BP.shape[1]
    chain, log_evidence_BOS = tunnel._seen(tables, batch)
    log_evidence_BOS = log_evidence_BOS[:, :observations]
    log_transition = jnp.log(chain.transition)

    def belief(kept_O: Array) -> Array:
        """[B, P, S]: the filter, with evidence where it is kept."""
        log_kept_BOS = jnp.where(kept_O[None, :, None], log_evidence_BOS, 0.0)
        return tunnel._with_target(log_filter(log_transition, log_kept_BOS)[:, at], log_kept_BOS, at)

    log_all_BPS = belief(jnp.ones(observations, bool))
    log_less_OBPS = jax.lax.map(belief, ~jnp.eye(observations, dtype=bool))
    lost_OBP = jnp.sum(jnp.exp(log_all_BPS)[None] * (log_all_BPS[None] - log_less_OBPS), axis=-1)
    # A symbol that is not yet seen changes nothing, but for rounding.
    seen_PO = jnp.arange(observations)[None] <= at[:, None] - tunnel._blind
    lost_BPO = jnp.where(seen_PO[None], jnp.maximum(jnp.moveaxis(lost_OBP, 0, -1), 0.0), 0.0)
    log_share_BPO = jnp.log(lost_BPO) - jnp.log(jnp.sum(lost_BPO, axis=-1, keepdims=True))
    log_share_BPO = jnp.where(lost_BPO > 0, log_share_BPO, -jnp.inf)
    tokens = batch.inputs.shape[1]
    nothing_BPT = jnp.full((*log_share_BPO.shape[:2], tokens), -jnp.inf)
    shown = tokens - tunnel._header  # symbols in the inputs
    return nothing_BPT.at[:, :, tunnel._header :].set(log_share_BPO[..., :shown])


TARGETS: dict[type, Callable[..., Array]] = {
    Recall: _recall,
    Urn: _urn,
    Bijection: _bijection,
    Markov: _markov,
    Hmm: _hmm,
}


def _even(counts_BPT: Array) -> Array:
    """Log-weights that are alike where `counts_BPT` is true; a row of −∞ where it nowhere is."""
    total_BP1 = jnp.sum(counts_BPT, axis=-1, keepdims=True)
    return jnp.where(counts_BPT, -jnp.log(jnp.maximum(total_BP1, 1).astype(float)), -jnp.inf)

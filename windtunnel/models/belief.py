"""The belief recursion: yesterday's posterior is today's prior. And the model that is made of it.

In shapes, M is the hypotheses of a chain and N the chains.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.scipy.special import logsumexp
from jaxtyping import Array

from windtunnel.models import Belief as Spec
from windtunnel.models import Shape
from windtunnel.models.attention import take
from windtunnel.models.blocks import Reading
from windtunnel.models.residual import dense, embed, embedding, numbered
from windtunnel.models.score import Rows
from windtunnel.models.tap import LayerTap, Tap, as_tap

STAY = 4.0  # the logit by which a hypothesis starts as its own likeliest successor
FAR = 10.0  # logits of transitions are stored divided by it: Adam moves all numbers alike, and rare jumps are far away
FLOOR = -20.0  # nats: lower log-beliefs are read as this
SMALL = 1e-3  # features much smaller than this count as zero, where transitions are learned from their logarithms


def ahead(log_belief_NM: Array, log_transition_NMM: Array) -> Array:
    """[…, N, M]: log(exp(b) T), the prior of the next token, from the posterior b of this one. T[…, m, k] is the
    probability that k follows m.
    """
    return logsumexp(log_belief_NM[..., None] + log_transition_NMM, axis=-2)


def recursion(evidence_BTNM: Array, log_transition: Array, log_start_NM: Array) -> Array:
    """[B, T, N, M]: the log-posterior b after every token (nats), a Bayesian filter over M hypotheses:

        b_0 = log softmax(e_0 + log start),   b_t = log softmax(e_t + log(exp(b_{t−1}) T_t))

    with evidence e (the log-likelihood of the token, up to a constant) and row-stochastic T. `log_transition` is
    [N, M, M], or [B, T, N, M, M] where it changes from token to token. In log space throughout, so T may have zeros.
    """
    changes = log_transition.ndim > 3

    def step(prior_BNM: Array, seen: Any) -> tuple[Array, Array]:
        """`seen` are the evidence of a token, and the transition from it to the next."""
        evidence_BNM, log_next = seen
        belief_BNM = jax.nn.log_softmax(evidence_BNM + prior_BNM)
        return ahead(belief_BNM, log_next if changes else log_transition), belief_BNM

    evidence_TBNM = jnp.moveaxis(evidence_BTNM, 1, 0)
    log_next = jnp.roll(jnp.moveaxis(log_transition, 1, 0), -1, axis=0) if changes else None
    start_BNM = jnp.broadcast_to(log_start_NM, evidence_TBNM.shape[1:])
    _, belief_TBNM = lax.scan(step, start_BNM, (evidence_TBNM, log_next))
    return jnp.moveaxis(belief_TBNM, 0, 1)


class Belief(nnx.Module):
    """x = embed(token);  logits = head(x + Σ_n W_n b_n), with b of `recursion`, which the chain's log-belief enters
    linearly: behind an MLP or a norm, what was learned held for fewer horizons.

    Taps, in order: `embedding`; `evidence` and `belief` [B, T, N, M]; `residual`; `logits`. Replacing `belief` changes
    the output, not the beliefs at later tokens.
    """

    def __init__(self, spec: Spec, shape: Shape, rngs: nnx.Rngs):
        self.embedding = embedding(shape, spec.width, rngs)
        self.layers = numbered([Filter(spec, shape, rngs)])
        self.head = nnx.Linear(spec.width, shape.outcomes, rngs=rngs)

    def __call__(
        self,
        inputs: Array,
        tokens: Rows,
        *,
        key: Array | None = None,
        tap: Tap | None = None,
        readings: list[Reading] | None = None,
    ) -> Array:
        """[B, P, V]: logits at `tokens` (ascending). `key` and `readings` are part of the contract and unused here."""
        tap = as_tap(tap)
        x = tap(0, "embedding", embed(self.embedding, inputs))
        x = tap(0, "residual", take(x, tokens) + self.layers["0"](x, inputs, tokens, tap.at(0)))
        return tap(0, "logits", dense(self.head, x))


class Filter(nnx.Module):
    """N chains with M hypotheses (slots) each. The evidence is attention's score of M learned keys, e_m = q(x)·k_m/√d.

    T = softmax(z) is learned. With `content`, z + U f depends on the token: f is one-hot, or it has the logarithms of
    the features. A T among the features is then T by a U that only selects; from T itself, a softmax would have to
    learn the logarithm, and entries of 0.002 would hardly move it.
    """

    def __init__(self, spec: Spec, shape: Shape, rngs: nnx.Rngs):
        chains, slots = spec.chains, spec.slots
        self.shape = (chains, slots, slots)
        self.query = nnx.Linear(spec.width, spec.width, rngs=rngs)
        self.keys = nnx.Param(jax.random.normal(rngs(), (chains, slots, spec.width // chains)))
        noise_NMM = 0.1 * jax.random.normal(rngs(), self.shape)
        self.transition = nnx.Param((STAY * jnp.eye(slots) + noise_NMM) / FAR)
        self.change = nnx.data(None)
        if spec.transition == "content":
            self.change = embedding(shape, chains * slots**2, rngs)
            weight = self.change.kernel if shape.features else self.change.embedding
            weight[...] = jnp.zeros_like(weight[...])
        self.start = nnx.Param(jnp.zeros((chains, slots)))
        self.value = nnx.Linear(chains * slots, spec.width, use_bias=False, rngs=rngs)

    def log_transition(self, inputs: Array) -> Array:
        """log T: [N, M, M], or [B, T, N, M, M] where it depends on the tokens."""
        logits_NMM = FAR * self.transition[...]
        if self.change is None:
            return jax.nn.log_softmax(logits_NMM)
        seen = inputs if inputs.ndim == 2 else log_size(inputs)
        return jax.nn.log_softmax(logits_NMM + embed(self.change, seen).reshape(*inputs.shape[:2], *self.shape))

    def __call__(self, x_BTD: Array, inputs: Array, rows_Q: Rows, tap: LayerTap) -> Array:
        """[B, Q, D]: what the beliefs add to the residual stream at the tokens `rows_Q`."""
        batch, length, _ = x_BTD.shape
        q_BTNd = dense(self.query, x_BTD).reshape(batch, length, self.shape[0], -1)
        evidence_BTNM = jnp.einsum("btnd,nmd->btnm", q_BTNd, self.keys[...]) / jnp.sqrt(q_BTNd.shape[-1])
        log_start_NM = jax.nn.log_softmax(self.start[...])
        belief_BTNM = recursion(tap("evidence", evidence_BTNM), self.log_transition(inputs), log_start_NM)
        belief_BQNM = take(tap("belief", belief_BTNM), rows_Q)
        return dense(self.value, jnp.maximum(belief_BQNM, FLOOR).reshape(*belief_BQNM.shape[:2], -1))


def log_size(features_BTF: Array) -> Array:
    """log(|x| + ε), shifted and scaled so that features between 0 and 1 are between −1 and 1."""
    return 1 - 2 * jnp.log(jnp.abs(features_BTF) + SMALL) / jnp.log(SMALL)

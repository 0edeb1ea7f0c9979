"""Experts weighed by the evidence that they have gathered: routing as Bayes' rule, with no router.

In shapes, K is the experts.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.scipy.special import logsumexp
from jaxtyping import Array

from windtunnel.models import Experts as Spec
from windtunnel.models import Shape
from windtunnel.models.attention import take
from windtunnel.models.belief import FAR, STAY, ahead, recursion
from windtunnel.models.blocks import Reading
from windtunnel.models.residual import numbered
from windtunnel.models.score import Rows
from windtunnel.models.tap import Tap, as_tap
from windtunnel.models.transformer import Transformer


class Experts(nnx.Module):
    """K transformers p_k, whose weights are a posterior by the belief recursion. With o_t the outcome predicted at
    token t, which token t + 1 shows,

        w_t(k) = Σ_j g_{t−1}(j) T_jk,    q_t = Σ_k w_t(k) p_k(· | past),    g_t(k) ∝ w_t(k) p_k(o_t | past),

    from g_{−1} = 1/K. A token that shows no outcome, as a start does, brings no evidence. T is the identity where
    nothing switches; with `at_starts` the T before such a token is learned for each of them, the first of a sequence
    included; with `anywhere` one T is learned for all. Gradients flow through the weights. While training, evidence
    counts by a factor that rises from 0 to 1 over the first `annealing` of the steps: until then all experts learn.

    Taps: those of expert k of L layers, at depths from kL on, without its logits; `gate` [B, P, K], the log w_t, and
    `logits`, at depth KL − 1. An expert is needed at every token, so its last layer shows all of them.
    """

    def __init__(self, spec: Spec, shape: Shape, rngs: nnx.Rngs):
        expert: Any = spec.expert
        self.experts = numbered(
            [Transformer(expert, of.bound(spec.width, shape.length), shape, rngs) for of in spec.positions]
        )
        self.outcomes, self.depth, self.switching = shape.outcomes, spec.layers, spec.switching
        self.annealing = nnx.data(spec.annealing)
        count = len(spec.positions)
        rows = {"never": 0, "at_starts": shape.vocabulary - shape.outcomes, "anywhere": 1}[spec.switching]
        stay = STAY * jnp.eye(count) if spec.switching == "anywhere" else jnp.zeros((count, count))
        self.transition = nnx.Param(jnp.tile(stay / FAR, (rows, 1, 1))) if rows else nnx.data(None)

    def __call__(
        self,
        inputs: Array,
        tokens: Rows,
        *,
        key: Array | None = None,
        tap: Tap | None = None,
        readings: list[Reading] | None = None,
        progress: Array | None = None,
    ) -> Array:
        """[B, P, V]: log-probabilities at `tokens` (ascending). `progress` is the share of training that is done."""
        tap, every = as_tap(tap), np.arange(inputs.shape[1])
        count, top = len(self.experts), len(self.experts) * self.depth - 1
        log_p_KBTV = jnp.stack(
            [
                jax.nn.log_softmax(self.experts[str(k)](inputs, every, key=key, tap=Deeper(tap, k * self.depth)))
                for k in range(count)
            ]
        )
        log_gate_BTK = self.weights(log_p_KBTV, inputs, progress)
        log_gate_BPK = tap(top, "gate", take(log_gate_BTK, tokens))
        log_p_BPKV = jnp.moveaxis(jnp.stack([take(log_p_BTV, tokens) for log_p_BTV in log_p_KBTV]), 0, 2)
        return tap(top, "logits", logsumexp(log_gate_BPK[..., None] + log_p_BPKV, axis=2))

    def weights(self, log_p_KBTV: Array, inputs: Array, progress: Array | None) -> Array:
        """[B, T, K]: log w_t, before the outcome at t is seen."""
        experts = len(log_p_KBTV)
        next_BT = jnp.pad(inputs[:, 1:], ((0, 0), (0, 1)), constant_values=self.outcomes)  # the last is not known yet
        shown_BTV = jax.nn.one_hot(next_BT, self.outcomes, dtype=bool)
        evidence_KBT = jnp.sum(jnp.where(shown_BTV[None], log_p_KBTV, 0.0), axis=-1)
        if progress is not None:
            evidence_KBT *= jnp.minimum(1.0, progress / jnp.maximum(self.annealing, 1e-6))
        log_transition = self.log_transition(inputs, experts)
        prior_1K = jnp.full((1, experts), -jnp.log(float(experts)))
        changes = log_transition.ndim > 3
        first = ahead(prior_1K, log_transition[:, 0] if changes else log_transition)  # [B or none, 1, K]
        gathered_BT1K = recursion(jnp.moveaxis(evidence_KBT, 0, -1)[:, :, None], log_transition, first)
        before_BT1K = jnp.concatenate(
            [jnp.broadcast_to(prior_1K, gathered_BT1K[:, :1].shape), gathered_BT1K[:, :-1]], axis=1
        )
        return ahead(before_BT1K, log_transition)[:, :, 0]

    def log_transition(self, inputs: Array, experts: int) -> Array:
        """log T before each token: [1, K, K], or [B, T, 1, K, K] where it depends on the token."""
        stay_KK = jnp.log(jnp.eye(experts))
        if self.transition is None:
            return stay_KK[None]
        log_T_RKK = jax.nn.log_softmax(FAR * self.transition[...])
        if self.switching == "anywhere":
            return log_T_RKK
        every_VKK = jnp.concatenate([jnp.broadcast_to(stay_KK, (self.outcomes, experts, experts)), log_T_RKK])
        return every_VKK[inputs][:, :, None]


class Deeper(Tap):
    """The tap of one model among several: its depths begin at `first`, and what it predicts is shown by the whole."""

    def __init__(self, tap: Tap, first: int):
        self.tap, self.first = tap, first
        super().__init__(lambda depth, kind, value: value if kind == "logits" else tap(first + depth, kind, value))

    def wants(self, *kinds: str) -> bool:
        return self.tap.wants(*kinds)

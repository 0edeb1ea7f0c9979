"""A learned gate over groups of heads: what a network is usually given in place of Bayes' rule.

In shapes, G is the groups.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from windtunnel.models import Router as Spec
from windtunnel.models.tap import LayerTap


class Router(nnx.Module):
    """log g = log softmax(W x + b);  context of a head in group j × G g_j. So a uniform gate, with which it starts, is
    the layer without a gate. A tap sees `gate` [B, Q, G], the log g. Where it is not `routed`, the gate can be taught
    (`train.terms.domain`) and weighs nothing.
    """

    def __init__(self, spec: Spec, width: int):
        self.groups, self.routed = spec.groups, spec.routed
        self.weight = nnx.Param(jnp.zeros((width, spec.groups)))  # no `kernel`: that would be for Muon, not Adam
        self.bias = nnx.Param(jnp.zeros(spec.groups))

    def __call__(self, x_BQD: Array, context_BNQd: Array, tap: LayerTap) -> Array:
        """[B, N, Q, d]"""
        log_gate_BQG = tap("gate", jax.nn.log_softmax(x_BQD @ self.weight[...] + self.bias[...][None, None]))
        if not self.routed:
            return context_BNQd
        share_BGQ = self.groups * jnp.exp(jnp.moveaxis(log_gate_BQG, -1, 1))
        of_head_BNQ = jnp.repeat(share_BGQ, context_BNQd.shape[1] // self.groups, axis=1)
        return context_BNQd * of_head_BNQ[..., None]

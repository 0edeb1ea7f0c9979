"""Gates over groups of heads: a learned one, which is what a network is usually given in place of Bayes' rule, and
Bayes' rule itself, where the evidence for a head is its own log-normaliser.

In shapes, G is the groups.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from windtunnel.models import Router as Spec
from windtunnel.models.attention import take
from windtunnel.models.belief import recursion
from windtunnel.models.score import Rows
from windtunnel.models.tap import LayerTap

Evidence = Callable[[], Array]  # [B, N, T]: the log-normaliser of every head's prior at every token, if it is asked for


def router(spec: Spec, width: int) -> "Router | ByEvidence":
    return Router(spec, width) if spec.by == "content" else ByEvidence(spec)


class Router(nnx.Module):
    """log g = log softmax(W x + b);  context of a head in group j × G g_j. So a uniform gate, with which it starts, is
    the layer without a gate. A tap sees `gate` [B, Q, G], the log g. Where it is not `routed`, the gate can be taught
    (`train.terms.domain`) and weighs nothing.
    """

    alike = False  # whether all heads have the same content

    def __init__(self, spec: Spec, width: int):
        self.groups, self.routed = spec.groups, spec.routed
        self.weight = nnx.Param(jnp.zeros((width, spec.groups)))  # no `kernel`: that would be for Muon, not Adam
        self.bias = nnx.Param(jnp.zeros(spec.groups))

    def __call__(self, x_BTD: Array, rows_Q: Rows, context_BNQd: Array, evidence: Evidence, tap: LayerTap) -> Array:
        """[B, N, Q, d]"""
        logits_BQG = take(x_BTD, rows_Q) @ self.weight[...] + self.bias[...][None, None]
        log_gate_BQG = tap("gate", jax.nn.log_softmax(logits_BQG))
        return weighed(context_BNQd, log_gate_BQG) if self.routed else context_BNQd


class ByEvidence(nnx.Module):
    """The gate is the posterior over groups of heads, each a hypothesis about the positional prior π_g of a sequence:

        log g_t = log softmax(Σ_{s≤t} log Z_g(s)),   Z_g(s) = Σ_{j≤s} π_g(s, j) exp(c_sj), Σ_{j≤s} π_g(s, j) = 1,

    by the belief recursion. No outcome is seen: where the content c is a log-likelihood, Z_g is the probability of what
    token s asks under the prior of group g, and the gate is exact. Heads are `alike`: one content for all, since the
    hypotheses differ in their priors alone; of contents of their own, the largest would always win. The evidence of a
    group is the mean of its heads'. The gate has nothing to learn. A tap sees `evidence` [B, T, G] and `gate` [B, Q,
    G].
    """

    alike = True

    def __init__(self, spec: Spec):
        self.groups, self.routed = spec.groups, spec.routed

    def __call__(self, x_BTD: Array, rows_Q: Rows, context_BNQd: Array, evidence: Evidence, tap: LayerTap) -> Array:
        """[B, N, Q, d]"""
        log_evidence_BNT = evidence()
        batch, _, length = log_evidence_BNT.shape
        of_group_BGT = jnp.mean(log_evidence_BNT.reshape(batch, self.groups, -1, length), axis=2)
        evidence_BTG = tap("evidence", jnp.moveaxis(of_group_BGT, 1, 2))
        stays_1GG = jnp.log(jnp.eye(self.groups))[None]
        start_1G = jnp.full((1, self.groups), -jnp.log(float(self.groups)))
        log_gate_BTG = recursion(evidence_BTG[:, :, None], stays_1GG, start_1G)[:, :, 0]
        log_gate_BQG = tap("gate", take(log_gate_BTG, rows_Q))
        return weighed(context_BNQd, log_gate_BQG) if self.routed else context_BNQd


def weighed(context_BNQd: Array, log_gate_BQG: Array) -> Array:
    """[B, N, Q, d]: the contexts of group j × G g_j."""
    groups = log_gate_BQG.shape[-1]
    share_BGQ = groups * jnp.exp(jnp.moveaxis(log_gate_BQG, -1, 1))
    of_head_BNQ = jnp.repeat(share_BGQ, context_BNQd.shape[1] // groups, axis=1)
    return context_BNQd * of_head_BNQ[..., None]

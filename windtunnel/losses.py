"""Losses are named terms: each a sum over the examples of a batch with a weight of its own, {name: (sum, weight)}.

The first is cross-entropy; `train.terms` adds others, times their strength. Sums and weights are summed over devices,
and each sum is divided by its own weight.
"""

import math
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from windtunnel.information import kl
from windtunnel.models.tap import Collect
from windtunnel.spec import Family, Real, spec
from windtunnel.tunnels import Batch

CROSS_ENTROPY, KL = "cross_entropy", "kl"  # in nats; a learning curve has them in bits


class Sum(NamedTuple):
    """A sum over examples and positions, and the weight to divide it by."""

    total: Array
    weight: Array


class Look(NamedTuple):
    """What a term may look at: a batch, what exact inference and the model say of it (nats, [B, P, V]), and what the
    model showed to a tap. `axis` is the mesh axis over which the batch is split, or None.
    """

    tunnel: Any
    batch: Batch
    log_p_BPV: Array
    log_q_BPV: Array
    seen: Collect
    axis: str | None

    def over_devices(self, tree: Any) -> Any:
        """The sum over the devices that share the batch."""
        return tree if self.axis is None else lax.psum(tree, self.axis)


@spec
class Term:
    """A loss term, `strength` × sum ÷ weight. A plug-in's is a `@spec` subclass with a `name` of its own.

    `kinds` are what it wants a tap to show it (`models/tap.py`). A term that is no sum over examples, but a statistic
    of the batch, sums over devices inside itself (`look.over_devices`) and gives the weight 1.
    """

    strength: Real = 1.0
    kinds: ClassVar[tuple[str, ...]] = ()

    @property
    def name(self) -> str:
        raise NotImplementedError

    def measure(self, look: Look) -> Sum:
        raise NotImplementedError


TERMS = Family(Term)
AnyTerm = Annotated[Term, TERMS]


def terms(train: Any, look: Look) -> dict[str, Sum]:
    """Every term of a study's loss by its name, and `kl` to the exact posterior, which is reported and not trained on.

    Cross-entropy is to the exact predictive p (`posterior` supervision) or to the drawn outcome (`sample`):
    −Σ_v p_v log q_v or −log q_o. Their gradients have the same mean, since outcomes are drawn from p; at every single
    observation, the first lacks the variance of the draw.
    """
    if train.supervision == "posterior":
        target_BPV = jnp.exp(look.log_p_BPV)
    else:
        target_BPV = jax.nn.one_hot(look.batch.outcome_BP, look.tunnel.outcomes)
    weight_BP = look.batch.weight_BP
    weight = jnp.sum(weight_BP)
    return {
        CROSS_ENTROPY: Sum(-jnp.sum(target_BPV * look.log_q_BPV * weight_BP[..., None]), weight),
        KL: Sum(jnp.sum(kl(look.log_p_BPV, look.log_q_BPV) * weight_BP), weight),
        **{name: term.measure(look) for name, term in train.terms.items()},
    }


def combined(train: Any, sums: dict[str, Sum], axis: str | None) -> Array:
    """The loss of this device's share, times the weight of cross-entropy over all devices, by which the gradient is
    divided in the end: sums are in the gradient as they are until then.
    """
    loss = sums[CROSS_ENTROPY].total
    if train.terms:
        every = {name: sums[name].weight for name in (CROSS_ENTROPY, *train.terms)}
        every = jax.tree.map(lax.stop_gradient, every if axis is None else lax.psum(every, axis))
        for name, term in train.terms.items():
            loss = loss + term.strength * sums[name].total * every[CROSS_ENTROPY] / every[name]
    return loss


def means(sums: dict[str, Sum]) -> dict[str, Array]:
    """What a learning curve shows: every sum over its weight, `kl_bits` and `cross_entropy_bits` in bits."""
    bits = {name: sums[name].total / sums[name].weight / math.log(2) for name in (KL, CROSS_ENTROPY)}
    others = {name: of.total / of.weight for name, of in sums.items() if name not in bits}
    return {**{f"{name}_bits": mean for name, mean in bits.items()}, **others}


def curve_names(train: Any) -> list[str]:
    """The names of a learning curve, KL first."""
    return [f"{KL}_bits", f"{CROSS_ENTROPY}_bits", *train.terms]

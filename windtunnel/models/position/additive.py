"""Additive positions: log-priors over distance d, added to the attention score. softmax(a + b) is the normalised
product of softmax(a) and softmax(b): content is the likelihood, position the prior.
"""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array

from windtunnel.models.position.base import Parameters, Position, distance
from windtunnel.priors import generalized_gaussian
from windtunnel.spec import Positive, spec

EPSILON = 1e-3  # BAM's ε: keeps |d|^β and its gradients finite at d = 0


@spec
class Uniform(Position):
    """NoPE: log p(d) = 0. Order is known only through the causal mask."""

    name: Literal["uniform"] = "uniform"


@spec
class Alibi(Position):
    """log p(d) = −m_h d with m_h = 2^(−8h/N) for head h = 1 … N: a Laplace prior, fixed."""

    name: Literal["alibi"] = "alibi"

    stationary = True

    def bias(self, learned: Parameters, heads: int, query_at: Array, key_at: Array) -> Array:
        return -alibi_slopes(heads)[:, None, None] * distance(query_at, key_at)[None]


@spec
class GeneralizedGaussian(Position):
    """log p(d) = −(d/α_h)^β: the tunnel's own family, so β can be matched. β is fixed; the scale α starts at `scale`
    and is learned per head, or fixed.
    """

    name: Literal["generalized_gaussian"] = "generalized_gaussian"
    scale: Positive = 10.0
    beta: Positive = 0.5
    learn: bool = True

    stationary = True

    def parameters(self, key: Array, heads: int, width: int, length: int) -> Parameters:
        return {"log_scale": jnp.full(heads, jnp.log(self.scale))} if self.learn else {}

    def bias(self, learned: Parameters, heads: int, query_at: Array, key_at: Array) -> Array:
        scale_N = jnp.exp(learned["log_scale"]) if self.learn else jnp.asarray(self.scale)[None]
        return generalized_gaussian(distance(query_at, key_at)[None], scale_N[:, None, None], self.beta)


@spec
class Bam(Position):
    """log p(d) = −e^{θα} (d + ε)^{θβ}, both learned per head and layer without bounds: β < 0 masks the near and is
    flat far away. `start` is `uniform` (θβ = 0) or `alibi` (θβ = 1, θα = log m_h). Bianchessi et al. 2025.
    """

    name: Literal["bam"] = "bam"
    start: Literal["uniform", "alibi"] = "alibi"

    stationary = True

    def parameters(self, key: Array, heads: int, width: int, length: int) -> Parameters:
        log_slope_N = jnp.log(alibi_slopes(heads))
        if self.start == "uniform":
            return {"log_alpha": jnp.zeros(heads), "beta": jnp.zeros(heads)}
        return {"log_alpha": log_slope_N, "beta": jnp.ones(heads)}

    def bias(self, learned: Parameters, heads: int, query_at: Array, key_at: Array) -> Array:
        log_d_QK = jnp.log(distance(query_at, key_at) + EPSILON)[None]
        return -jnp.exp(learned["log_alpha"][:, None, None] + learned["beta"][:, None, None] * log_d_QK)


def alibi_slopes(heads: int) -> Array:
    """[N]: m_h = 2^(−8h/N) for h = 1 … N."""
    return 2.0 ** (-8.0 * jnp.arange(1, heads + 1) / heads)

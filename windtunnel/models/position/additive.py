"""Additive positions: log-priors over distance d, added to the attention score. softmax(a + b) is the normalised
product of softmax(a) and softmax(b): content is the likelihood, position the prior. This file has the priors with a
formula of a few numbers; `learned_bias.py` has the priors whose shape is learned.
"""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array

from windtunnel.models.position.base import Parameters, Position, distance
from windtunnel.priors import generalized_gaussian
from windtunnel.spec import Positive, spec

EPSILON = 1e-3  # BAM's ε: keeps |d|^β and its gradients finite at d = 0
LARGEST = 60.0  # bound on BAM's exponent: the log-prior is at least −e^60, since −∞ in float32 would lead to NaN


@spec
class Uniform(Position):
    """NoPE: log p(d) = 0. Order is known only through the causal mask."""

    name: Literal["uniform"] = "uniform"


@spec
class Alibi(Position):
    """log p(d) = −m_h d with m_h = 2^(−8h/N) for head h = 1 … N: a Laplace prior, fixed. Press et al. 2022."""

    name: Literal["alibi"] = "alibi"

    stationary = True

    def bias(self, learned: Parameters, heads: int, query_at: Array, key_at: Array) -> Array:
        return -alibi_slopes(heads)[:, None, None] * distance(query_at, key_at)[None]


@spec
class GeneralizedGaussian(Position):
    """log p(d) = −(d/α_h)^β: the family of the tunnels' priors, so a study can give both the same β. β is fixed; the
    scale α starts at `scale` and is learned per head, or fixed.
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
class Gaussian(Position):
    """log p(d) = −(d/σ_h)²: the generalized Gaussian at β = 2, its scale σ learned per head or fixed."""

    name: Literal["gaussian"] = "gaussian"
    scale: Positive = 10.0
    learn: bool = True

    stationary = True

    @property
    def _generalized(self) -> GeneralizedGaussian:
        return GeneralizedGaussian(scale=self.scale, beta=2.0, learn=self.learn)

    def parameters(self, key: Array, heads: int, width: int, length: int) -> Parameters:
        return self._generalized.parameters(key, heads, width, length)

    def bias(self, learned: Parameters, heads: int, query_at: Array, key_at: Array) -> Array:
        return self._generalized.bias(learned, heads, query_at, key_at)


@spec
class Bam(Position):
    """log p(d) = −e^θα (|d − μ| + ε)^θβ, μ = e^θμ − e^−θμ, per head and layer. θβ has no bounds: θβ < 0 masks distances
    near μ and is flat far away. Bianchessi et al. 2025.

    μ starts at 0; θα and θβ start at `uniform` (θα = θβ = 0, a constant prior) or at `alibi` (θβ = 1, θα = log m_h).
    `learn` names the parameters that are learned; the others keep their initial values.
    """

    name: Literal["bam"] = "bam"
    start: Literal["uniform", "alibi"] = "alibi"
    learn: tuple[Literal["alpha", "beta", "mu"], ...] = ("alpha", "beta")

    stationary = True

    def _start(self, heads: int) -> Parameters:
        alibi = self.start == "alibi"
        return {
            "log_alpha": jnp.log(alibi_slopes(heads)) if alibi else jnp.zeros(heads),
            "beta": jnp.ones(heads) if alibi else jnp.zeros(heads),
            "theta_mu": jnp.zeros(heads),
        }

    def parameters(self, key: Array, heads: int, width: int, length: int) -> Parameters:
        theta = {"alpha": "log_alpha", "beta": "beta", "mu": "theta_mu"}
        start = self._start(heads)
        return {theta[name]: start[theta[name]] for name in self.learn}

    def bias(self, learned: Parameters, heads: int, query_at: Array, key_at: Array) -> Array:
        theta = {name: value_N[:, None, None] for name, value_N in {**self._start(heads), **learned}.items()}
        from_mu_NQK = jnp.abs(distance(query_at, key_at)[None] - 2 * jnp.sinh(theta["theta_mu"]))
        exponent_NQK = theta["log_alpha"] + theta["beta"] * jnp.log(from_mu_NQK + EPSILON)
        return -jnp.exp(jnp.minimum(exponent_NQK, LARGEST))


@spec
class Kerple(Position):
    """log p(d) = −r₁ ln(1 + r₂ d), so p(d) = (1 + r₂ d)^−r₁: a power law. r₁, r₂ > 0 are learned per head and start at
    1. The logarithmic KERPLE of Chi et al. 2022; their power variant is BAM with 0 < β ≤ 2.
    """

    name: Literal["kerple"] = "kerple"

    stationary = True

    def parameters(self, key: Array, heads: int, width: int, length: int) -> Parameters:
        return {"log_r1": jnp.zeros(heads), "log_r2": jnp.zeros(heads)}

    def bias(self, learned: Parameters, heads: int, query_at: Array, key_at: Array) -> Array:
        r1_N, r2_N = (jnp.exp(learned[name])[:, None, None] for name in ("log_r1", "log_r2"))
        return -r1_N * jnp.log1p(r2_N * distance(query_at, key_at)[None])


def alibi_slopes(heads: int) -> Array:
    """[N]: m_h = 2^(−8h/N) for h = 1 … N."""
    return 2.0 ** (-8.0 * jnp.arange(1, heads + 1) / heads)

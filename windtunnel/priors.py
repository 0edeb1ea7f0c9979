"""Priors over a distance, as unnormalised log-densities. They serve as a tunnel's prior over hypotheses and (in
`models/position/`) as attention's prior over positions, because the theory says that the two should be the same.
"""

from typing import Annotated, Literal

import jax.numpy as jnp
from jaxtyping import Array
from pydantic import Field

from windtunnel.spec import Positive, spec


@spec
class Uniform:
    """log p(d) = 0"""

    name: Literal["uniform"] = "uniform"

    scale = beta = None

    def log_density(self, distance: Array) -> Array:
        return jnp.zeros_like(distance)


@spec
class Gaussian:
    """log p(d) = −(d / scale)²"""

    name: Literal["gaussian"] = "gaussian"
    scale: Positive = 10.0

    beta = 2.0  # the β of the same prior as a generalized Gaussian

    def log_density(self, distance: Array) -> Array:
        return -jnp.square(distance / self.scale)


@spec
class GeneralizedGaussian:
    """log p(d) = −(d / scale)^beta: β = 2 is the Gaussian, β = 1 the Laplace; below 1 the tail is heavy."""

    name: Literal["generalized_gaussian"] = "generalized_gaussian"
    scale: Positive = 10.0
    beta: Positive = 0.5

    def log_density(self, distance: Array) -> Array:
        return generalized_gaussian(distance, self.scale, self.beta)


Prior = Annotated[Uniform | Gaussian | GeneralizedGaussian, Field(discriminator="name")]


@spec
class Grid:
    """A hyper-prior: a generalized Gaussian whose scale and β are each drawn from a few, all pairs equally likely."""

    name: Literal["grid"] = "grid"
    scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0, 8.0, 64.0)
    betas: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0,)

    @property
    def members(self) -> list[GeneralizedGaussian]:
        """The G priors of the grid."""
        return [GeneralizedGaussian(scale=scale, beta=beta) for beta in self.betas for scale in self.scales]


def generalized_gaussian(distance: Array, scale: Array | float, beta: Array | float) -> Array:
    """−(d / scale)^beta, with a scale and a beta of any shape that fits the distances."""
    return -power(distance / scale, beta)


def power(base: Array, exponent: Array | float) -> Array:
    """base^exponent for base ≥ 0 and exponent > 0, with gradients that stay finite at base = 0."""
    inside = base > 0
    return jnp.where(inside, jnp.where(inside, base, 1.0) ** exponent, 0.0)

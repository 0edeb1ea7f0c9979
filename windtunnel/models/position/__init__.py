"""Positional priors: what attention believes about distance before it looks at the content.

A position has four methods, and each prior overrides those it needs: where tokens are (`positions`), what is added to
their embedding (`embed`), how queries and keys are turned (`rotate`), and the log-prior added to the attention score
(`bias`). Numbers that are fixed are knobs; what is learned lies in `learned`, one set a layer, made by `parameters`,
started from knobs, trained without weight decay.
"""

from typing import Annotated, Literal

from pydantic import Field

from windtunnel.models.position.absolute import Learned
from windtunnel.models.position.additive import EPSILON, Alibi, Bam, GeneralizedGaussian, Uniform, alibi_slopes
from windtunnel.models.position.base import Parameters, Position, distance
from windtunnel.models.position.rotary import Rope
from windtunnel.spec import spec

__all__ = [
    "EPSILON",
    "Alibi",
    "AnyPosition",
    "Bam",
    "GeneralizedGaussian",
    "Learned",
    "Parameters",
    "PerLayer",
    "Position",
    "Rope",
    "Single",
    "Uniform",
    "alibi_slopes",
    "distance",
    "per_layer",
]

_One = Uniform | Learned | Rope | Alibi | GeneralizedGaussian | Bam
Single = Annotated[_One, Field(discriminator="name")]


@spec
class PerLayer:
    """A list of positions, one per layer, the first at the bottom."""

    layers: tuple[Single, ...]
    name: Literal["per_layer"] = "per_layer"


AnyPosition = Annotated[_One | PerLayer, Field(discriminator="name")]


def per_layer(position: AnyPosition, layers: int) -> tuple[Single, ...]:
    """One position for each layer. A single one embeds only at the bottom; `PerLayer` ones wherever they stand."""
    return position.layers if isinstance(position, PerLayer) else (position,) * layers

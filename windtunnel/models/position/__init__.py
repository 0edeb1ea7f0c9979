"""Positional priors: what attention believes about distance before it looks at the content.

A position has four methods, and each prior overrides those it needs: where tokens are (`positions`), what is added to
their embedding (`embed`), how queries and keys are turned (`rotate`), and the log-prior added to the attention score
(`bias`). Numbers that are fixed are knobs; what is learned lies in `learned`, one set a layer, made by `parameters`,
started from knobs, trained without weight decay. `docs/positions.md` has them all in a table.
"""

from typing import Annotated, Any, Literal

from windtunnel.models.position.absolute import Learned, Randomised, Sinusoidal
from windtunnel.models.position.additive import (
    EPSILON,
    Alibi,
    Bam,
    Gaussian,
    GeneralizedGaussian,
    Kerple,
    Uniform,
    alibi_slopes,
)
from windtunnel.models.position.base import Parameters, Position, distance
from windtunnel.models.position.learned_bias import T5, Fire
from windtunnel.models.position.rotary import Rope, Xpos
from windtunnel.spec import Family, spec

__all__ = [
    "EPSILON",
    "POSITIONS",
    "SINGLE",
    "T5",
    "Alibi",
    "AnyPosition",
    "Bam",
    "Fire",
    "Gaussian",
    "GeneralizedGaussian",
    "Kerple",
    "Learned",
    "Parameters",
    "PerLayer",
    "Position",
    "Randomised",
    "Rope",
    "Single",
    "Sinusoidal",
    "Uniform",
    "Xpos",
    "alibi_slopes",
    "distance",
    "per_layer",
]

ADDITIVE = (Uniform, Alibi, Gaussian, GeneralizedGaussian, Bam, Kerple, T5, Fire)
SINGLE = Family(Position, *ADDITIVE, Rope, Xpos, Learned, Sinusoidal, Randomised)
Single = Annotated[Position, SINGLE]


@spec
class PerLayer(Position):
    """A list of positions, one per layer, the first at the bottom."""

    layers: tuple[Single, ...]
    name: Literal["per_layer"] = "per_layer"

    def bound(self, width: int, length: int) -> Any:
        return PerLayer(layers=tuple(one.bound(width, length) for one in self.layers))

    def conflict(self, head: int, length: int) -> str | None:
        conflicts = ((i, one.conflict(head, length)) for i, one in enumerate(self.layers))
        return next((f".layers.{i}{conflict}" for i, conflict in conflicts if conflict is not None), None)


POSITIONS = SINGLE.and_also(PerLayer)
AnyPosition = Annotated[Position, POSITIONS]


def per_layer(position: AnyPosition, layers: int) -> tuple[Single, ...]:
    """One position for each layer. A single one embeds only at the bottom; `PerLayer` ones wherever they stand."""
    return position.layers if isinstance(position, PerLayer) else (position,) * layers

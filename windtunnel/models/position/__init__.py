"""Positional priors: what attention believes about distance before it looks at the content.

A position has four methods, and each prior overrides those it needs: where tokens are (`positions`), what is added to
their embedding (`embed`), how queries and keys are rotated (`rotate`), and the log-prior added to the attention score
(`bias`). Fixed numbers are knobs. Learned ones are in `learned`, one set for each layer: `parameters` makes them, from
knobs, and they are trained without weight decay. `docs/positions.md` lists all positions in a table.
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
        return PerLayer(layers=tuple(position.bound(width, length) for position in self.layers))

    def conflict(self, head: int, length: int) -> str | None:
        conflicts = ((i, position.conflict(head, length)) for i, position in enumerate(self.layers))
        return next((f".layers.{i}{conflict}" for i, conflict in conflicts if conflict is not None), None)


POSITIONS = SINGLE.and_also(PerLayer)
AnyPosition = Annotated[Position, POSITIONS]


def per_layer(position: AnyPosition, layers: int) -> tuple[Single, ...]:
    """One position for each layer. A single position adds to the embedding once; those of a `PerLayer` add at each
    layer.
    """
    return position.layers if isinstance(position, PerLayer) else (position,) * layers

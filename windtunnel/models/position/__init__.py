"""Positional priors: what attention believes about distance before it looks at the content.

A position has four methods, and each prior overrides those it needs: where tokens are (`positions`), what is added to
their embedding (`embed`), how queries and keys are rotated (`rotate`), and the log-prior added to the attention score
(`bias`). Fixed numbers are knobs. Learned ones are in `learned`, one set for each layer: `parameters` makes them, from
knobs, and they are trained without weight decay. `docs/positions.md` lists all positions in a table.
"""

from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

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
    "OfLayer",
    "Parameters",
    "PerHead",
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
ADDED = ", ".join(position.name for position in ADDITIVE)  # what can be of a head


@spec
class PerHead(Position):
    """A list of additive positions, one per head. The i-th is as head i of a layer that has it in all heads: ALiBi's
    slope, for one, depends on the number of the head.
    """

    heads: tuple[Single, ...]
    name: Literal["per_head"] = "per_head"

    @property
    def has_bias(self) -> bool:
        return any(position.has_bias for position in self.heads)

    @property
    def stationary(self) -> bool:  # pyrefly: ignore[bad-override]
        return all(position.stationary or not position.has_bias for position in self.heads)

    @property
    def flat_beyond(self) -> int | None:  # pyrefly: ignore[bad-override]
        ends = [position.flat_beyond if position.has_bias else 0 for position in self.heads]
        return max(end for end in ends if end is not None) if None not in ends else None

    def bound(self, width: int, length: int) -> Any:
        return PerHead(heads=tuple(position.bound(width, length) for position in self.heads))

    def conflict(self, head: int, length: int) -> str | None:
        for number, position in enumerate(self.heads):
            own = type(position)
            if position.rotates or own.embed is not Position.embed or own.positions is not Position.positions:
                return f".heads.{number}={position.name}: adds no prior to the score of a head alone; valid: {ADDED}"
            if (conflict := position.conflict(head, length)) is not None:
                return f".heads.{number}{conflict}"
        return None

    def parameters(self, key: Array, heads: int, width: int, length: int) -> Parameters:
        keys = jax.random.split(key, len(self.heads))
        of = [part.parameters(own, heads, width, length) for part, own in zip(self.heads, keys, strict=True)]
        return {f"{name}_{number}": value for number, own in enumerate(of) for name, value in own.items()}

    def bias(self, learned: Parameters, heads: int, query_at: Array, key_at: Array) -> Array:
        def row(number: int, position: Position) -> Array:
            end = f"_{number}"
            own = {name.removesuffix(end): value for name, value in learned.items() if name.endswith(end)}
            bias_NQK = position.bias(own, heads, query_at, key_at)
            if bias_NQK is None:
                return jnp.zeros((len(query_at), len(key_at)))
            return jnp.broadcast_to(bias_NQK, (heads, *bias_NQK.shape[1:]))[number]

        return jnp.stack([row(number, position) for number, position in enumerate(self.heads)])


ONE = SINGLE.and_also(PerHead)
OfLayer = Annotated[Position, ONE]


@spec
class PerLayer(Position):
    """A list of positions, one per layer, the first at the bottom."""

    layers: tuple[OfLayer, ...]
    name: Literal["per_layer"] = "per_layer"

    def bound(self, width: int, length: int) -> Any:
        return PerLayer(layers=tuple(position.bound(width, length) for position in self.layers))

    def conflict(self, head: int, length: int) -> str | None:
        conflicts = ((i, position.conflict(head, length)) for i, position in enumerate(self.layers))
        return next((f".layers.{i}{conflict}" for i, conflict in conflicts if conflict is not None), None)


POSITIONS = ONE.and_also(PerLayer)
AnyPosition = Annotated[Position, POSITIONS]


def per_layer(position: AnyPosition, layers: int) -> tuple[OfLayer, ...]:
    """One position for each layer. A single position adds to the embedding once; those of a `PerLayer` add at each
    layer.
    """
    return position.layers if isinstance(position, PerLayer) else (position,) * layers

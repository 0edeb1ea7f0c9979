"""Absolute positions: something is added to a token's embedding that says where it stands."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from windtunnel.models.position.base import Parameters, Position
from windtunnel.spec import Size, spec


@spec
class Learned(Position):
    """Absolute positions, an embedding each, learned. The table ends at `length` tokens (null: at the horizon).

    `past` says what a token past the table gets: `clip`, the last entry; `wrap`, the table from its start again;
    `zero`, nothing. There is no right answer, which is why the choice is a field and in the record.
    """

    name: Literal["learned"] = "learned"
    length: Size | None = None
    past: Literal["clip", "wrap", "zero"] = "clip"

    def parameters(self, key: Array, heads: int, width: int, length: int) -> Parameters:
        return {"table": 0.02 * jax.random.normal(key, (self.length or length, width))}

    def embed(self, learned: Parameters, positions: Array) -> Array:
        table = learned["table"]
        if self.past == "zero":
            return jnp.where((positions < len(table))[:, None], table[jnp.minimum(positions, len(table) - 1)], 0.0)
        return jnp.take(table, positions, axis=0, mode=self.past)

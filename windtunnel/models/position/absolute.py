"""Absolute positions: a vector that is added to a token's embedding says where the token is."""

from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from pydantic import Field

from windtunnel.models.position.base import Parameters, Position
from windtunnel.models.position.rotary import Rope
from windtunnel.spec import Size, spec


@spec
class Learned(Position):
    """A learned embedding for each absolute position. The table has `length` entries (null: as many as the horizon).

    `past` says what a token past the table gets: `clip`, the last entry; `wrap`, the table from its start again;
    `zero`, nothing. No choice is right, which is why it is a field and part of the record.
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


@spec
class Sinusoidal(Position):
    """Fixed absolute positions: channel 2i of token t gets sin(t / 10000^(2i/D)), channel 2i + 1 the cosine of the same
    angle. Vaswani et al. 2017.
    """

    name: Literal["sinusoidal"] = "sinusoidal"

    def bound(self, width: int, length: int) -> Any:
        return Waves(width=width)


@spec
class Waves(Sinusoidal):
    """Sinusoids of a known width D. Users choose `Sinusoidal`, whose `bound` makes this."""

    width: Size

    def embed(self, learned: Parameters, positions: Array) -> Array:
        pair = jnp.arange(-(-self.width // 2))
        angle_Ti = positions[:, None] / 10_000.0 ** (2 * pair / self.width)[None]
        return jnp.stack([jnp.sin(angle_Ti), jnp.cos(angle_Ti)], axis=-1).reshape(len(positions), -1)[:, : self.width]


@spec
class Randomised(Position):
    """T tokens get T different positions of a longer range, in order, so that evaluation meets no untrained position.
    In training the positions are drawn uniformly at each step; in evaluation token t is at ⌊t · range / T⌋. The `inner`
    position uses them. Ruoss et al. 2023.
    """

    name: Literal["randomised"] = "randomised"
    range: Size = 32768
    inner: Annotated[Sinusoidal | Learned | Rope, Field(discriminator="name")] = Sinusoidal()

    def bound(self, width: int, length: int) -> Any:
        return Randomised(range=self.range, inner=self.inner.bound(width, self.range))

    def conflict(self, head: int, length: int) -> str | None:
        if length > self.range:
            return (
                f".range={self.range}: has no place for each of the {length} tokens that are evaluated; "
                f"give a position.range of at least {length}, or a smaller evaluate.reach"
            )
        if isinstance(self.inner, Rope) and self.inner.scaling != "none":
            return f".inner.scaling={self.inner.scaling}: no place in the range is past what was trained; valid: none"
        conflict = self.inner.conflict(head, length)
        return None if conflict is None else f".inner{conflict}"

    def parameters(self, key: Array, heads: int, width: int, length: int) -> Parameters:
        return self.inner.parameters(key, heads, width, self.range)

    def positions(self, key: Array | None, length: int) -> Array:
        if key is None:
            return jnp.asarray(np.arange(length, dtype=np.int64) * self.range // length, jnp.int32)
        # The indices of the largest of uniform draws are a random subset: a hundred times faster than a shuffle.
        return jnp.sort(jax.lax.top_k(jax.random.uniform(key, (self.range,)), length)[1])

    def embed(self, learned: Parameters, positions: Array) -> Array | None:
        return self.inner.embed(learned, positions)

    def rotate(self, learned: Parameters, x: Array, positions: Array) -> Array:
        return self.inner.rotate(learned, x, positions)

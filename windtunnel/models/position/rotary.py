"""Rotary positions: queries and keys are turned. Not a term added to the score, so outside the theory of positional
priors; kept as the common baseline.
"""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array

from windtunnel.models.position.base import Parameters, Position
from windtunnel.spec import Positive, spec


@spec
class Rope(Position):
    """Rotary: pair i of queries and keys is turned by position × base^(−2i/d), so that scores depend on distance."""

    name: Literal["rope"] = "rope"
    base: Positive = 10_000.0

    def rotate(self, learned: Parameters, x: Array, positions: Array) -> Array:
        half = x.shape[-1] // 2
        angle_Ti = positions[:, None] * self.base ** (-jnp.arange(half) / half)[None]
        cos_Ti, sin_Ti = jnp.cos(angle_Ti), jnp.sin(angle_Ti)
        first, second = x[..., :half], x[..., half:]
        return jnp.concatenate([first * cos_Ti - second * sin_Ti, first * sin_Ti + second * cos_Ti], axis=-1)

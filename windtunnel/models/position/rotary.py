"""Rotary positions: queries and keys are turned. Not a term added to the score, so outside the theory of positional
priors; kept as the common baseline.
"""

import math
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array

from windtunnel.models.position.base import Parameters, Position
from windtunnel.spec import Positive, Size, spec


@spec
class Rope(Position):
    """Rotary: pair i of queries and keys is turned by position × base^(−2i/d), so that scores depend on distance.
    Su et al. 2021.

    `scaling` is what is done to a trained model when it is evaluated on s times the tokens it was trained on, s > 1:
    nothing; or what `Stretched` says. Training knows nothing of it, and neither do lengths up to the trained one.
    """

    name: Literal["rope"] = "rope"
    base: Positive = 10_000.0
    scaling: Literal["none", "interpolation", "ntk", "yarn"] = "none"

    def bound(self, width: int, length: int) -> Any:
        if self.scaling == "none":
            return self
        return Stretched(base=self.base, scaling=self.scaling, trained=length)

    def conflict(self, head: int, length: int) -> str | None:
        if self.scaling == "ntk" and head == 2:
            return ".scaling=ntk: needs a head width of at least 4, for its exponent d/(d − 2)"
        return odd(self.name, head)

    def rotate(self, learned: Parameters, x: Array, positions: Array) -> Array:
        return turned(x, positions[:, None] * frequencies(x.shape[-1], self.base)[None])


@spec
class Stretched(Rope):
    """RoPE evaluated on s times the `trained` tokens; not a choice of its own. With θ_i = base^(−2i/d), pair i turns by

    - `interpolation`: θ_i / s a token, so that no angle is new (Chen et al. 2023);
    - `ntk`: base' = base · s^(d/(d−2)), which divides the slowest θ by s and leaves the fastest (NTK-aware RoPE, 2023);
    - `yarn`: (1 − γ_i) θ_i / s + γ_i θ_i, γ_i rising from 0 for pairs that turn once within the trained length to 1
      for those that turn 32 times; queries and keys × 0.1 ln s + 1 (Peng et al. 2024).
    """

    trained: Size

    def positions(self, key: Array | None, length: int) -> Array:
        """[T, 2]: the token and s, which is 1 up to the trained length."""
        s = max(1.0, length / self.trained)
        return jnp.stack([jnp.arange(length, dtype=jnp.result_type(float)), jnp.full(length, s)], axis=-1)

    def rotate(self, learned: Parameters, x: Array, positions: Array) -> Array:
        width, s = x.shape[-1], positions[0, 1]
        theta_i = frequencies(width, self.base)
        if self.scaling == "interpolation":
            theta_i = theta_i / s
        elif self.scaling == "ntk":
            theta_i = frequencies(width, self.base * s ** (width / (width - 2)))
        else:
            turns_i = self.trained * theta_i / (2 * math.pi)
            gamma_i = jnp.clip((turns_i - 1) / (32 - 1), 0, 1)
            theta_i = (1 - gamma_i) * theta_i / s + gamma_i * theta_i
            x = x * (0.1 * jnp.log(s) + 1)
        return turned(x, positions[:, :1] * theta_i[None])


@spec
class Xpos(Position):
    """RoPE with a decay: queries at n are also multiplied by ζ_i^(n/scale) and keys at m by ζ_i^(−m/scale), so that
    pair i of a score falls as ζ_i^((n−m)/scale), with ζ_i = (2i/d + 0.4) / 1.4. Sun et al. 2022.
    """

    name: Literal["xpos"] = "xpos"
    scale: Positive = 512.0

    def conflict(self, head: int, length: int) -> str | None:
        longest = int(128 * self.scale)  # then the largest factor is e^80; float32 ends at e^88
        if length > longest:
            return (
                f".scale={self.scale:g}: in float32 the decay holds for {longest} tokens, not for {length}; "
                f"give a scale of at least {math.ceil(length / 128)}, or a smaller evaluate.reach"
            )
        return odd(self.name, head)

    def positions(self, key: Array | None, length: int) -> Array:
        """Counted from the middle, which changes no score and halves the exponents."""
        return jnp.arange(length) - length // 2

    def rotate(self, learned: Parameters, x: Array, positions: Array) -> Array:
        return self._turned(x, positions, 1 / self.scale)

    def rotate_keys(self, learned: Parameters, x: Array, positions: Array) -> Array:
        return self._turned(x, positions, -1 / self.scale)

    def _turned(self, x: Array, positions: Array, rate: Array | float) -> Array:
        pairs = x.shape[-1] // 2
        zeta_i = (jnp.arange(pairs) / pairs + 0.4) / 1.4
        decay_Ti = jnp.exp(rate * positions[:, None] * jnp.log(zeta_i)[None])
        x = turned(x, positions[:, None] * frequencies(x.shape[-1], 10_000.0)[None])
        return x * jnp.concatenate([decay_Ti, decay_Ti], axis=-1)


def odd(name: str, head: int) -> str | None:
    return f"={name}: needs an even head width, not {head} (model.width ÷ model.heads)" if head % 2 else None


def frequencies(width: int, base: Array | float) -> Array:
    """[d/2]: base^(−2i/d), radians a token."""
    half = width // 2
    return base ** (-jnp.arange(half) / half)


def turned(x: Array, angle_Ti: Array) -> Array:
    """[B, N, T, d]: the pair (x_i, x_{i+d/2}) of each token, turned by its angle."""
    cos_Ti, sin_Ti = jnp.cos(angle_Ti), jnp.sin(angle_Ti)
    first, second = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return jnp.concatenate([first * cos_Ti - second * sin_Ti, first * sin_Ti + second * cos_Ti], axis=-1)

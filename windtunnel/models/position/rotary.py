"""Rotary positions: queries and keys are rotated. This adds no term to the score, so the theory of positional priors
does not cover it; it is the common baseline.
"""

import math
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array

from windtunnel.models.position.base import Parameters, Position
from windtunnel.spec import Positive, Size, spec


@spec
class Rope(Position):
    """Rotary: pair i of queries and keys is rotated by position × base^(−2i/d), so that scores depend on distance.
    Su et al. 2021.

    `scaling` changes how a trained model is evaluated on s times its training length, s > 1 (see `Stretched`). It
    changes neither training nor evaluation up to the training length.
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
        return odd_width(self.name, head)

    def rotate(self, learned: Parameters, x: Array, positions: Array) -> Array:
        return rotated(x, positions[:, None] * frequencies(x.shape[-1], self.base)[None])


@spec
class Stretched(Rope):
    """RoPE evaluated on s times the `trained` tokens. Users choose `Rope`, whose `bound` makes this.

    With θ_i = base^(−2i/d), the angle of pair i for each token is

    - `interpolation`: θ_i / s, so that no angle is untrained (Chen et al. 2023);
    - `ntk`: θ_i with base' = base · s^(d/(d−2)), which divides the slowest θ by s and keeps the fastest (NTK-aware
      RoPE, 2023);
    - `yarn`: (1 − γ_i) θ_i / s + γ_i θ_i, where γ_i rises from 0 for pairs that rotate once within the trained length
      to 1 for pairs that rotate 32 times; queries and keys are multiplied by 0.1 ln s + 1 (Peng et al. 2024).
    """

    trained: Size

    def positions(self, key: Array | None, length: int) -> Array:
        """[T, 2]: the index of the token and s, which is 1 up to the trained length."""
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
            rotations_i = self.trained * theta_i / (2 * math.pi)
            gamma_i = jnp.clip((rotations_i - 1) / (32 - 1), 0, 1)
            theta_i = (1 - gamma_i) * theta_i / s + gamma_i * theta_i
            x = x * (0.1 * jnp.log(s) + 1)
        return rotated(x, positions[:, :1] * theta_i[None])


@spec
class Xpos(Position):
    """RoPE with a decay: queries at n are also multiplied by ζ_i^(n/scale) and keys at m by ζ_i^(−m/scale), so that
    pair i of a score falls as ζ_i^((n−m)/scale), with ζ_i = (2i/d + 0.4) / 1.4. Sun et al. 2022.
    """

    name: Literal["xpos"] = "xpos"
    scale: Positive = 512.0

    def conflict(self, head: int, length: int) -> str | None:
        longest = int(128 * self.scale)  # the largest factor is then e^80; float32 overflows at e^88
        if length > longest:
            return (
                f".scale={self.scale:g}: in float32 the decay holds for {longest} tokens, not for {length}; "
                f"give a scale of at least {math.ceil(length / 128)}, or a smaller evaluate.reach"
            )
        return odd_width(self.name, head)

    def positions(self, key: Array | None, length: int) -> Array:
        """Positions counted from the middle of the sequence: no score changes, and the exponents are halved."""
        return jnp.arange(length) - length // 2

    def rotate(self, learned: Parameters, x: Array, positions: Array) -> Array:
        return self._rotated(x, positions, 1 / self.scale)

    def rotate_keys(self, learned: Parameters, x: Array, positions: Array) -> Array:
        return self._rotated(x, positions, -1 / self.scale)

    def _rotated(self, x: Array, positions: Array, rate: Array | float) -> Array:
        pairs = x.shape[-1] // 2
        zeta_i = (jnp.arange(pairs) / pairs + 0.4) / 1.4
        decay_Ti = jnp.exp(rate * positions[:, None] * jnp.log(zeta_i)[None])
        x = rotated(x, positions[:, None] * frequencies(x.shape[-1], 10_000.0)[None])
        return x * jnp.concatenate([decay_Ti, decay_Ti], axis=-1)


def odd_width(name: str, head: int) -> str | None:
    """The conflict of a rotation, which needs pairs, with heads of odd width."""
    return f"={name}: needs an even head width, not {head} (model.width ÷ model.heads)" if head % 2 else None


def frequencies(width: int, base: Array | float) -> Array:
    """[d/2]: base^(−2i/d), radians per token."""
    half = width // 2
    return base ** (-jnp.arange(half) / half)


def rotated(x: Array, angle_Ti: Array) -> Array:
    """[B, N, T, d]: each pair (x_i, x_{i+d/2}) of each token, rotated by its angle."""
    cos_Ti, sin_Ti = jnp.cos(angle_Ti), jnp.sin(angle_Ti)
    first, second = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return jnp.concatenate([first * cos_Ti - second * sin_Ti, first * sin_Ti + second * cos_Ti], axis=-1)

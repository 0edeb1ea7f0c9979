"""Positional priors: what attention believes about distance before it looks at the content.

A position has four methods, and each prior overrides those it needs: where tokens are (`positions`), what is added to
their embedding (`embed`), how queries and keys are turned (`rotate`), and the log-prior added to the attention score
(`bias`). Numbers that are fixed are knobs; what is learned lies in `learned`, one set a layer, made by `parameters`,
started from knobs, trained without weight decay.
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array
from pydantic import Field

from windtunnel.priors import generalized_gaussian
from windtunnel.spec import Positive, Size, spec

Parameters = dict[str, Array]  # what is learned of a layer's positional prior
EPSILON = 1e-3  # BAM's ε: keeps |d|^β and its gradients finite at d = 0


class Position:
    """The contract, and the position that knows nothing."""

    def parameters(self, key: Array, heads: int, width: int, length: int) -> Parameters:
        """What is learned, at its start, for a layer of N heads and width D trained on `length` tokens."""
        return {}

    def positions(self, key: Array | None, length: int) -> Array:
        """[T]: where the tokens are. `key` is given while training and None in evaluation."""
        return jnp.arange(length)

    def embed(self, learned: Parameters, positions: Array) -> Array | None:
        """[T, D]: added to the embeddings, or None."""
        return None

    def rotate(self, learned: Parameters, x: Array, positions: Array) -> Array:
        """[B, N, T, d] → [B, N, T, d]: queries or keys as attention sees them."""
        return x

    def bias(self, learned: Parameters, heads: int, query_at: Array, key_at: Array) -> Array | None:
        """[N or 1, Q, K]: the log-prior added to the attention score, or None where it is zero."""
        return None


@spec
class Uniform(Position):
    """NoPE: log p(d) = 0. Order is known only through the causal mask."""

    name: Literal["uniform"] = "uniform"


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


@spec
class Rope(Position):
    """Rotary: pair i of queries and keys is turned by position × base^(−2i/d), so that scores depend on distance.
    Not a term added to the score: outside the theory of positional priors, kept as the common baseline.
    """

    name: Literal["rope"] = "rope"
    base: Positive = 10_000.0

    def rotate(self, learned: Parameters, x: Array, positions: Array) -> Array:
        half = x.shape[-1] // 2
        angle_Ti = positions[:, None] * self.base ** (-jnp.arange(half) / half)[None]
        cos_Ti, sin_Ti = jnp.cos(angle_Ti), jnp.sin(angle_Ti)
        first, second = x[..., :half], x[..., half:]
        return jnp.concatenate([first * cos_Ti - second * sin_Ti, first * sin_Ti + second * cos_Ti], axis=-1)


@spec
class Alibi(Position):
    """log p(d) = −m_h d with m_h = 2^(−8h/N) for head h = 1 … N: a Laplace prior, fixed."""

    name: Literal["alibi"] = "alibi"

    def bias(self, learned: Parameters, heads: int, query_at: Array, key_at: Array) -> Array:
        return -alibi_slopes(heads)[:, None, None] * distance(query_at, key_at)[None]


@spec
class GeneralizedGaussian(Position):
    """log p(d) = −(d/α_h)^β: the tunnel's own family, so β can be matched. β is fixed; the scale α starts at `scale`
    and is learned per head, or fixed.
    """

    name: Literal["generalized_gaussian"] = "generalized_gaussian"
    scale: Positive = 10.0
    beta: Positive = 0.5
    learn: bool = True

    def parameters(self, key: Array, heads: int, width: int, length: int) -> Parameters:
        return {"log_scale": jnp.full(heads, jnp.log(self.scale))} if self.learn else {}

    def bias(self, learned: Parameters, heads: int, query_at: Array, key_at: Array) -> Array:
        scale_N = jnp.exp(learned["log_scale"]) if self.learn else jnp.asarray(self.scale)[None]
        return generalized_gaussian(distance(query_at, key_at)[None], scale_N[:, None, None], self.beta)


@spec
class Bam(Position):
    """log p(d) = −e^{θα} (d + ε)^{θβ}, both learned per head and layer without bounds: β < 0 masks the near and is
    flat far away. `start` is `uniform` (θβ = 0) or `alibi` (θβ = 1, θα = log m_h). Bianchessi et al. 2025.
    """

    name: Literal["bam"] = "bam"
    start: Literal["uniform", "alibi"] = "alibi"

    def parameters(self, key: Array, heads: int, width: int, length: int) -> Parameters:
        log_slope_N = jnp.log(alibi_slopes(heads))
        if self.start == "uniform":
            return {"log_alpha": jnp.zeros(heads), "beta": jnp.zeros(heads)}
        return {"log_alpha": log_slope_N, "beta": jnp.ones(heads)}

    def bias(self, learned: Parameters, heads: int, query_at: Array, key_at: Array) -> Array:
        log_d_QK = jnp.log(distance(query_at, key_at) + EPSILON)[None]
        return -jnp.exp(learned["log_alpha"][:, None, None] + learned["beta"][:, None, None] * log_d_QK)


Single = Annotated[
    Uniform | Learned | Rope | Alibi | GeneralizedGaussian | Bam,
    Field(discriminator="name"),
]


@spec
class PerLayer:
    """A list of positions, one per layer, the first at the bottom."""

    layers: tuple[Single, ...]
    name: Literal["per_layer"] = "per_layer"


AnyPosition = Annotated[
    Uniform | Learned | Rope | Alibi | GeneralizedGaussian | Bam | PerLayer,
    Field(discriminator="name"),
]


def per_layer(position: AnyPosition, layers: int) -> tuple[Single, ...]:
    """One position for each layer. A single one embeds only at the bottom; `PerLayer` ones wherever they stand."""
    return position.layers if isinstance(position, PerLayer) else (position,) * layers


def alibi_slopes(heads: int) -> Array:
    """[N]: m_h = 2^(−8h/N) for h = 1 … N."""
    return 2.0 ** (-8.0 * jnp.arange(1, heads + 1) / heads)


def distance(query_at: Array, key_at: Array) -> Array:
    """[Q, K]: |i − j| as a float."""
    return jnp.abs(query_at[:, None] - key_at[None, :]).astype(jnp.result_type(float))

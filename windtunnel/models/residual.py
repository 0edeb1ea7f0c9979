"""What the architectures share: the embedding, layers that add to a residual stream, and the output head."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array

from windtunnel.models import Shape
from windtunnel.models.attention import take
from windtunnel.models.blocks import Reading
from windtunnel.models.score import Rows
from windtunnel.models.tap import Tap, as_tap


def embedding(shape: Shape, width: int, rngs: nnx.Rngs, gated: bool = False) -> Any:
    """The layer that maps tokens, or features, to vectors of this width."""
    if shape.features:
        return Gated(shape.features, width, rngs) if gated else nnx.Linear(shape.features, width, rngs=rngs)
    return nnx.Embed(shape.vocabulary, width, rngs=rngs)


class Gated(nnx.Module):
    """W x + b + U x ⊙ gate(x), gate(x) = V gelu(H x + c) + d: an embedding of features that can multiply one by a
    function of another, such as what is seen by how reliable it is. A gated linear unit (Dauphin et al. 2017; Shazeer
    2020) whose gate has a hidden layer, since the gain of a channel is no linear function of its noise.
    """

    def __init__(self, features: int, width: int, rngs: nnx.Rngs):
        self.linear, self.value = (nnx.Linear(features, width, use_bias=first, rngs=rngs) for first in (True, False))
        self.hidden = nnx.Linear(features, width, rngs=rngs)
        self.gate = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.linear(x) + self.value(x) * self.gate(jax.nn.gelu(self.hidden(x)))


def embed(layer: Any, inputs: Array) -> Array:
    """[B, T, D] from tokens int32[B, T] or features float32[B, T, F]."""
    return layer(inputs.reshape(-1, *inputs.shape[2:])).reshape(*inputs.shape[:2], -1)


def dense(layer: nnx.Linear, x: Array) -> Array:
    """A linear layer applied to flat tokens: on [B, T, D], XLA's backward pass on a CPU is three times slower."""
    return layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def numbered(layers: list[Any]) -> nnx.Dict:
    """Layers under their numbers as names."""
    return nnx.Dict({str(i): layer for i, layer in enumerate(layers)})


def in_order(layers: nnx.Dict) -> list[Any]:
    """Layers sorted by number. Flax sorts them by name, where 10 comes before 2."""
    return [layers[str(i)] for i in range(len(layers))]


class Residual(nnx.Module):
    """x ← x + layer(norm x), L times;  logits = head(norm x).

    A layer is made by `make(spec, rngs)` and called as `layer(x_BTD, rows_Q, tokens_P, tap) -> [B, Q, D]`; only layers
    mix tokens. Taps, in order: `embedding`; per layer its own, then `residual`; `logits`.
    """

    def __init__(self, make: Callable[..., Any], spec: Any, shape: Shape, rngs: nnx.Rngs):
        self.embedding = embedding(shape, spec.width, rngs)
        self.norms = numbered([nnx.RMSNorm(spec.width, rngs=rngs) for _ in range(spec.layers)])
        self.layers = numbered([make(spec, rngs) for _ in range(spec.layers)])
        self.norm = nnx.RMSNorm(spec.width, rngs=rngs)
        self.head = nnx.Linear(spec.width, shape.outcomes, rngs=rngs)

    def __call__(
        self,
        inputs: Array,
        tokens: Rows,
        *,
        key: Array | None = None,
        tap: Tap | None = None,
        readings: list[Reading] | None = None,
    ) -> Array:
        """[B, P, V]: logits at `tokens` (ascending). `key` and `readings` are part of the contract and unused here."""
        tap = as_tap(tap)
        x = tap(0, "embedding", embed(self.embedding, inputs))
        for index, (norm, layer) in enumerate(zip(in_order(self.norms), in_order(self.layers), strict=True)):
            last = index == len(self.layers) - 1
            rows = tokens if last else np.arange(inputs.shape[1])  # the last layer is needed only at `tokens`
            x = tap(index, "residual", take(x, rows) + layer(norm(x), rows, tokens, tap.at(index)))
        return tap(len(self.layers) - 1, "logits", dense(self.head, self.norm(x)))

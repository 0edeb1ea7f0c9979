"""What the architectures share: the way in, layers that add to a residual stream, the way out."""

from collections.abc import Callable
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Array

from windtunnel.models import Shape
from windtunnel.models.attention import take
from windtunnel.models.blocks import Reading
from windtunnel.models.score import Rows
from windtunnel.models.tap import Tap, as_tap


def embedding(shape: Shape, width: int, rngs: nnx.Rngs) -> Any:
    """The layer that makes tokens, or features, into vectors of a width."""
    if shape.features:
        return nnx.Linear(shape.features, width, rngs=rngs)
    return nnx.Embed(shape.vocabulary, width, rngs=rngs)


def embed(layer: Any, inputs: Array) -> Array:
    """[B, T, D] of int32[B, T] or float32[B, T, F], over flat tokens."""
    return layer(inputs.reshape(-1, *inputs.shape[2:])).reshape(*inputs.shape[:2], -1)


def dense(layer: nnx.Linear, x: Array) -> Array:
    """A linear layer over flat tokens: a product on [B, T, D] makes XLA's backward pass on CPU three times slower."""
    return layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def numbered(layers: list[Any]) -> nnx.Dict:
    return nnx.Dict({str(i): layer for i, layer in enumerate(layers)})


def in_order(layers: nnx.Dict) -> list[Any]:
    """By number, not by name: flax sorts names, and 10 would come before 2."""
    return [layers[str(i)] for i in range(len(layers))]


class Stack(nnx.Module):
    """x ← x + layer(norm x), L times;  logits = head(norm x).

    A layer is made by `make(spec, rngs)` and called as `layer(x_BTD, rows_Q, tokens_P, tap) -> [B, Q, D]`; time passes
    in it and nowhere else. Taps, in order: `embedding`; per layer its own, then `residual`; `logits`.
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
            rows = tokens if last else np.arange(inputs.shape[1])  # the last layer is read only where it is asked
            x = tap(index, "residual", take(x, rows) + layer(norm(x), rows, tokens, tap.at(index)))
        return tap(len(self.layers) - 1, "logits", dense(self.head, self.norm(x)))

"""A multilayer perceptron over a window: it sees the last w tokens, each through weights of its own, and no others."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from windtunnel.models import Mlp as Spec
from windtunnel.models import Shape
from windtunnel.models.attention import take
from windtunnel.models.blocks import Reading
from windtunnel.models.residual import dense, embed, embedding, in_order, numbered
from windtunnel.models.score import Rows
from windtunnel.models.tap import Tap, as_tap


class Mlp(nnx.Module):
    """x = W [e_{t−w+1} … e_t];  x ← x + down(gelu(up(norm x))), L times;  logits = head(norm x).

    The embeddings before the first token are zeros. Everything after the embedding is computed only at the tokens whose
    logits are wanted. Taps, in order: `embedding`; per layer `residual`; `logits`.
    """

    def __init__(self, spec: Spec, shape: Shape, rngs: nnx.Rngs):
        self.embedding = embedding(shape, spec.width, rngs)
        self.layers = numbered([Window(spec, rngs), *(Layer(spec, rngs) for _ in range(spec.layers))])
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
        window, *layers = in_order(self.layers)
        x = window(x, tokens)
        for index, layer in enumerate(layers):
            x = tap(index, "residual", layer(x))
        return tap(len(layers) - 1, "logits", dense(self.head, self.norm(x)))


class Window(nnx.Module):
    """[B, Q, D]: W [e_{t−w+1} … e_t] at the tokens t of `rows_Q`."""

    def __init__(self, spec: Spec, rngs: nnx.Rngs):
        self.tokens = spec.window
        self.linear = nnx.Linear(spec.window * spec.width, spec.width, use_bias=False, rngs=rngs)

    def __call__(self, e_BTD: Array, rows_Q: Rows) -> Array:
        padded = jnp.pad(e_BTD, ((0, 0), (self.tokens - 1, 0), (0, 0)))
        return dense(self.linear, jnp.concatenate([take(padded, rows_Q + i) for i in range(self.tokens)], axis=-1))


class Layer(nnx.Module):
    def __init__(self, spec: Spec, rngs: nnx.Rngs):
        self.norm = nnx.RMSNorm(spec.width, rngs=rngs)
        self.up = nnx.Linear(spec.width, spec.hidden, rngs=rngs)
        self.down = nnx.Linear(spec.hidden, spec.width, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return x + dense(self.down, jax.nn.gelu(dense(self.up, self.norm(x))))

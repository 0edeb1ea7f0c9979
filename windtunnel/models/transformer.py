"""A pre-norm transformer, causal by construction: tokens or features in, logits over the tunnel's outcomes out."""

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array

from windtunnel.models import Shape
from windtunnel.models import Transformer as Spec
from windtunnel.models.attention import Attention, take
from windtunnel.models.blocks import Reading
from windtunnel.models.position import AnyPosition, PerLayer, Single, per_layer
from windtunnel.models.residual import dense, embed, embedding, in_order, numbered
from windtunnel.models.score import Rows
from windtunnel.models.tap import LayerTap, Tap, as_tap


class Transformer(nnx.Module):
    """x ← x + attention(norm x);  x ← x + mlp(norm x);  logits = head(norm x).

    Taps, in order: `embedding`; at depth l `queries`, `keys`, `values`, `scores`, `attention`, `context`, `residual`;
    `logits`. A looped transformer applies its L layers several times: pass p of layer i has depth pL + i.
    """

    def __init__(self, spec: Spec, position: AnyPosition, shape: Shape, rngs: nnx.Rngs):
        self.embedding = embedding(shape, spec.width, rngs)
        self.loops = spec.loops
        self.embeds_in_every_layer = isinstance(position, PerLayer)
        positions = per_layer(position, spec.layers)
        self.layers = numbered([Layer(spec, layer_position, shape.length, rngs) for layer_position in positions])
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
        """[B, P, V]: logits at `tokens` (ascending). `key` is given while training."""
        length, tap = inputs.shape[1], as_tap(tap)
        x = tap(0, "embedding", embed(self.embedding, inputs))
        path = in_order(self.layers) * self.loops
        for index, layer in enumerate(path):
            position, learned = layer.attention.position, layer.attention.learned_parameters()
            positions = position.positions(key, length)
            if index == 0 or self.embeds_in_every_layer:
                embedded = position.embed(learned, positions)
                x = x if embedded is None else x + embedded[None]
            last = index == len(path) - 1
            rows = tokens if last else np.arange(length)  # the last layer is needed only at `tokens`
            x = layer(x, positions, rows, tokens, tap.at(index), readings)
        return tap(len(path) - 1, "logits", dense(self.head, self.norm(x)))


class Layer(nnx.Module):
    def __init__(self, spec: Spec, position: Single, length: int, rngs: nnx.Rngs):
        self.norm_attention = nnx.RMSNorm(spec.width, rngs=rngs)
        self.attention = Attention(spec.width, spec.heads, position, spec.softmax, length, rngs, spec.inference)
        self.norm_mlp = nnx.RMSNorm(spec.width, rngs=rngs)
        self.up = nnx.Linear(spec.width, spec.hidden, rngs=rngs)
        self.down = nnx.Linear(spec.hidden, spec.width, rngs=rngs)

    def __call__(
        self, x: Array, positions: Array, rows: Rows, tokens: Rows, tap: LayerTap, readings: list[Reading] | None
    ) -> Array:
        x = take(x, rows) + self.attention(self.norm_attention(x), positions, rows, tokens, tap, readings)
        x = x + dense(self.down, jax.nn.gelu(dense(self.up, self.norm_mlp(x))))
        return tap("residual", x)

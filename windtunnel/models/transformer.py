"""A pre-norm transformer, causal by construction: tokens or features in, logits over the tunnel's outcomes out."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from windtunnel.models import Depth, Router, Shape
from windtunnel.models import Transformer as Spec
from windtunnel.models.attention import Attention, take
from windtunnel.models.blocks import Reading
from windtunnel.models.depth import settle, unrolled
from windtunnel.models.position import AnyPosition, OfLayer, PerLayer, per_layer
from windtunnel.models.residual import dense, embed, embedding, in_order, numbered
from windtunnel.models.router import router as gated
from windtunnel.models.score import Rows
from windtunnel.models.tap import Closed, LayerTap, Tap, as_tap


class Transformer(nnx.Module):
    """x ← x + attention(norm x);  x ← x + mlp(norm x);  logits = head(norm x).

    Taps, in order: `embedding`; at depth l `queries`, `keys`, `values`, `scores`, `attention`, `context`, `gate` where
    there is a router (in the top layer), `residual`; `logits`. A looped transformer applies its L layers several times:
    pass p of layer i has depth pL + i.

    With adaptive `depth`, an iteration is s ← layers(x + norm s) from s = 0, x the embedding: what is to be inferred is
    seen anew in each, and s can stay where it is. Taps are then `embedding`; in evaluation, `iterations` [B, P];
    `residual`, the last states; `logits`; all at depth 0.
    """

    def __init__(self, spec: Spec, position: AnyPosition, shape: Shape, rngs: nnx.Rngs):
        self.embedding = embedding(shape, spec.width, rngs, spec.embedding == "gated")
        self.loops, self.depth = spec.loops, nnx.data(spec.depth)
        self.norm_state = nnx.data(None if spec.depth is None else nnx.RMSNorm(spec.width, rngs=rngs))
        self.embeds_in_every_layer = isinstance(position, PerLayer)
        positions = per_layer(position, spec.layers)
        routers = [None] * (spec.layers - 1) + [spec.router]
        self.layers = numbered(
            [Layer(spec, own, shape.length, rngs, router) for own, router in zip(positions, routers, strict=True)]
        )
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
        if self.depth is not None:
            return self.until_settled(x, tokens, self.depth, key, tap, readings)
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
        return tap(len(path) - 1, "logits", self.logits(x))

    def logits(self, x: Array) -> Array:
        return dense(self.head, self.norm(x))

    def until_settled(
        self, x_BTD: Array, tokens: Rows, depth: Depth, key: Array | None, tap: Tap, readings: list[Reading] | None
    ) -> Array:
        """[B, P, V]: the logits of adaptive depth; while training, of a random number of iterations."""
        every, norm = np.arange(x_BTD.shape[1]), self.norm_state
        assert norm is not None

        def iterate(s_BTD: Array) -> Array:
            y_BTD = x_BTD + norm(s_BTD)
            for index, layer in enumerate(in_order(self.layers)):
                position, learned = layer.attention.position, layer.attention.learned_parameters()
                positions = position.positions(key, len(every))
                embedded = position.embed(learned, positions) if index == 0 or self.embeds_in_every_layer else None
                y_BTD = y_BTD if embedded is None else y_BTD + embedded[None]
                y_BTD = layer(y_BTD, positions, every, every, Closed().at(0), None)
            return y_BTD

        if key is not None:
            s_BPD = unrolled(iterate, jnp.zeros_like(x_BTD), tokens, self.loops, key)
        else:
            s_BTD, iterations = settle(iterate, self.logits, jnp.zeros_like(x_BTD), depth)
            s_BPD = s_BTD[:, tokens]
            iterations.at(tokens).show(tap, readings)
        return tap(0, "logits", self.logits(tap(0, "residual", s_BPD)))


class Layer(nnx.Module):
    def __init__(self, spec: Spec, position: OfLayer, length: int, rngs: nnx.Rngs, router: Router | None = None):
        self.norm_attention = nnx.RMSNorm(spec.width, rngs=rngs)
        every = spec.depth is not None  # no later token may matter, bit for bit
        softmax, inference = spec.softmax, spec.inference
        gate = None if router is None else gated(router, spec.width)
        self.attention = Attention(spec.width, spec.heads, position, softmax, length, rngs, inference, every, gate)
        self.norm_mlp = nnx.RMSNorm(spec.width, rngs=rngs)
        self.up = nnx.Linear(spec.width, spec.hidden, rngs=rngs)
        self.down = nnx.Linear(spec.hidden, spec.width, rngs=rngs)

    def __call__(
        self, x: Array, positions: Array, rows: Rows, tokens: Rows, tap: LayerTap, readings: list[Reading] | None
    ) -> Array:
        x = take(x, rows) + self.attention(self.norm_attention(x), positions, rows, tokens, tap, readings)
        x = x + dense(self.down, jax.nn.gelu(dense(self.up, self.norm_mlp(x))))
        return tap("residual", x)

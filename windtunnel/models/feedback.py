"""Feedback attention: a token attends to the top states of the last W tokens, so that depth grows with time.

In shapes, R is rows (tokens of all examples) and W the tokens of the window, the nearest first.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array

from windtunnel.models import Feedback as Spec
from windtunnel.models import Shape
from windtunnel.models.blocks import Reading
from windtunnel.models.depth import settle, unrolled
from windtunnel.models.residual import dense, embed, embedding, in_order, numbered
from windtunnel.models.score import Rows
from windtunnel.models.tap import Tap, as_tap


class Feedback(nnx.Module):
    """s_t = layers(e_t; s_{t−1} … s_{t−W}): the keys and values of every layer come from the *top* states s of the last
    W tokens (Fan et al. 2020). Before the first token, s is learned.

    Computed token after token. With `depth`, all tokens at once, again and again (`depth.py`): s^n_t is made from the
    s^{n−1} of earlier tokens, so after n iterations the first n tokens have the states that they have in sequence, and
    the others as far as they depend on no more than the last nW.

    Taps, all at depth 0, in order: `embedding`; with `depth`, in evaluation, `iterations` [B, P]; `residual`, the top
    states; `logits`.
    """

    def __init__(self, spec: Spec, shape: Shape, rngs: nnx.Rngs):
        self.window, self.loops, self.depth = spec.window, spec.loops, nnx.data(spec.depth)
        self.embedding = embedding(shape, spec.width, rngs)
        self.layers = numbered([Layer(spec, rngs) for _ in range(spec.layers)])
        self.norm_top = nnx.RMSNorm(spec.width, rngs=rngs)
        self.start = nnx.Param(jax.random.normal(rngs(), (spec.width,)))
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
        tap = as_tap(tap)
        e_BTD = tap(0, "embedding", embed(self.embedding, inputs))
        start_BTD = jnp.broadcast_to(self.start[...], e_BTD.shape)
        if self.depth is None:
            s_BPD = self.in_sequence(e_BTD)[:, tokens]
        elif key is not None:
            s_BPD = unrolled(lambda s: self.at_once(e_BTD, s), start_BTD, tokens, self.loops, key)
        else:
            s_BTD, iterations = settle(lambda s: self.at_once(e_BTD, s), self.logits, start_BTD, self.depth)
            s_BPD = s_BTD[:, tokens]
            iterations.at(tokens).show(tap, readings)
        return tap(0, "logits", self.logits(tap(0, "residual", s_BPD)))

    def logits(self, s: Array) -> Array:
        return dense(self.head, self.norm(s))

    def tops(self, s_RD: Array) -> list[tuple[Array, Array]]:
        """The keys and values [R, N, d] that each layer makes of top states."""
        normed = self.norm_top(s_RD)
        return [layer.keys_and_values(normed) for layer in in_order(self.layers)]

    def top(self, e_RD: Array, seen: list[tuple[Array, Array]]) -> Array:
        """[R, D]: the top states of tokens, from the keys and values [R, W, N, d] of each layer."""
        for layer, (k_RWNd, v_RWNd) in zip(in_order(self.layers), seen, strict=True):
            e_RD = layer(e_RD, k_RWNd, v_RWNd)
        return e_RD

    def in_sequence(self, e_BTD: Array) -> Array:
        """[B, T, D]: top states, token after token."""
        before = self.tops(jnp.broadcast_to(self.start[...], (len(e_BTD), e_BTD.shape[-1])))
        window = jax.tree.map(lambda x_BNd: jnp.repeat(x_BNd[:, None], self.window, axis=1), before)

        def step(window: list[tuple[Array, Array]], e_BD: Array) -> tuple[list[tuple[Array, Array]], Array]:
            s_BD = self.top(e_BD, window)
            pushed = jax.tree.map(
                lambda old, new: jnp.concatenate([new[:, None], old[:, :-1]], axis=1), window, self.tops(s_BD)
            )
            return pushed, s_BD

        _, s_TBD = lax.scan(step, window, jnp.moveaxis(e_BTD, 1, 0))
        return jnp.moveaxis(s_TBD, 0, 1)

    def at_once(self, e_BTD: Array, s_BTD: Array) -> Array:
        """[B, T, D]: top states of all tokens, each from the `s_BTD` of earlier ones."""
        batch, length, width = e_BTD.shape
        start = jnp.broadcast_to(self.start[...], (batch, self.window, width))
        known = jnp.concatenate([start, s_BTD], axis=1)

        def windows(x_RNd: Array) -> Array:  # [R, W, N, d]
            x_BTNd = x_RNd.reshape(batch, length + self.window, *x_RNd.shape[1:])
            lags = [x_BTNd[:, self.window - lag :][:, :length] for lag in range(1, self.window + 1)]
            return jnp.stack(lags, axis=2).reshape(batch * length, self.window, *x_RNd.shape[1:])

        seen = jax.tree.map(windows, self.tops(known.reshape(-1, width)))
        return self.top(e_BTD.reshape(-1, width), seen).reshape(e_BTD.shape)


class Layer(nnx.Module):
    """x ← x + attention(norm x);  x ← x + mlp(norm x). The prior over lags 1 … W is learned for each head; it starts
    falling at 1, 1/4, 1/16 … nats a token.
    """

    def __init__(self, spec: Spec, rngs: nnx.Rngs):
        self.heads = spec.heads
        self.norm_attention, self.norm_mlp = (nnx.RMSNorm(spec.width, rngs=rngs) for _ in range(2))
        self.query, self.key, self.value, self.output = (
            nnx.Linear(spec.width, spec.width, use_bias=False, rngs=rngs) for _ in range(4)
        )
        self.log_lag = nnx.Param(-(4.0 ** -jnp.arange(spec.heads))[:, None] * jnp.arange(1.0, spec.window + 1))
        self.up = nnx.Linear(spec.width, spec.hidden, rngs=rngs)
        self.down = nnx.Linear(spec.hidden, spec.width, rngs=rngs)

    def keys_and_values(self, top_RD: Array) -> tuple[Array, Array]:
        return self.split(self.key(top_RD)), self.split(self.value(top_RD))

    def split(self, x_RD: Array) -> Array:
        return x_RD.reshape(len(x_RD), self.heads, -1)

    def __call__(self, x_RD: Array, k_RWNd: Array, v_RWNd: Array) -> Array:
        q_RNd = self.split(self.query(self.norm_attention(x_RD)))
        scores_RNW = jnp.einsum("rnd,rwnd->rnw", q_RNd, k_RWNd) / jnp.sqrt(q_RNd.shape[-1]) + self.log_lag[...]
        context_RNd = jnp.einsum("rnw,rwnd->rnd", jax.nn.softmax(scores_RNW), v_RWNd)
        x_RD = x_RD + self.output(context_RNd.reshape(x_RD.shape))
        return x_RD + self.down(jax.nn.gelu(self.up(self.norm_mlp(x_RD))))

"""Recurrent layers: they summarise the past in a state of fixed size. In shapes, G is the gates of all units
together.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array

from windtunnel.models.attention import take
from windtunnel.models.residual import dense
from windtunnel.models.score import Rows
from windtunnel.models.tap import LayerTap


class Recurrent(nnx.Module):
    """h_t = step(h_{t−1}, W x_t + b), and the output is h. Tap `state` [B, T, D] sees h after the scan over time:
    replacing it changes the output, not the states of later steps.

    The inputs of all steps are projected in one product before the scan, so that a step computes only U h and the
    gates.
    """

    gates: int

    def __init__(self, spec: Any, rngs: nnx.Rngs):
        width, stacked = spec.width, self.gates * spec.width
        self.input = nnx.Linear(width, stacked, rngs=rngs)
        orthogonal = nnx.initializers.orthogonal()
        self.recurrent = nnx.Linear(width, stacked, use_bias=False, kernel_init=orthogonal, rngs=rngs)

    def start(self, batch: int) -> Any:
        """The carry before the first token."""
        return jnp.zeros((batch, self.recurrent.in_features))

    def step(self, carry: Any, input_BG: Array, recurrent_DG: Array) -> tuple[Any, Array]:
        """The next carry, and h [B, D]."""
        raise NotImplementedError

    def __call__(self, x_BTD: Array, rows_Q: Rows, tokens_P: Rows, tap: LayerTap) -> Array:
        recurrent_DG = self.recurrent.kernel[...]
        input_TBG = dense(self.input, jnp.swapaxes(x_BTD, 0, 1))
        _, state_TBD = lax.scan(
            lambda carry, input_BG: self.step(carry, input_BG, recurrent_DG), self.start(x_BTD.shape[0]), input_TBG
        )
        return take(tap("state", jnp.swapaxes(state_TBD, 0, 1)), rows_Q)


class Gru(Recurrent):
    """r, z = σ(W x + U h + b);  n = tanh(W_n x + b_n + r ⊙ U_n h);  h ← (1 − z) ⊙ n + z ⊙ h.  Cho et al. 2014."""

    gates = 3

    def step(self, carry: Array, input_BG: Array, recurrent_DG: Array) -> tuple[Array, Array]:
        r_in, z_in, n_in = jnp.split(input_BG, 3, axis=-1)
        r_h, z_h, n_h = jnp.split(carry @ recurrent_DG, 3, axis=-1)
        z = jax.nn.sigmoid(z_in + z_h)
        h = (1 - z) * jnp.tanh(n_in + jax.nn.sigmoid(r_in + r_h) * n_h) + z * carry
        return h, h


class Lstm(Recurrent):
    """i, f, o = σ(W x + U h + b), with + 1 inside f's σ;  c ← f ⊙ c + i ⊙ tanh(W_g x + U_g h + b_g);  h = o ⊙ tanh c.

    Hochreiter & Schmidhuber 1997. The + 1, a forget gate that starts open, is from Jozefowicz et al. (2015).
    """

    gates = 4

    def start(self, batch: int) -> tuple[Array, Array]:
        return super().start(batch), super().start(batch)

    def step(
        self, carry: tuple[Array, Array], input_BG: Array, recurrent_DG: Array
    ) -> tuple[tuple[Array, Array], Array]:
        c, h = carry
        i, f, g, o = jnp.split(input_BG + h @ recurrent_DG, 4, axis=-1)
        c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), h

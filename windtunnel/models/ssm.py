"""A selective state space: a linear recurrence whose rates, inputs and outputs depend on the tokens (Mamba).

In the shapes of this file, N is the states of a channel (there are no heads), E the channels, and K the tokens that the
convolution sees.
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

CHUNK = 64  # tokens whose N states are in memory at once; everything else takes memory without the factor N
EXPANSION = 2  # E = 2 D channels
KERNEL = 4  # tokens that the convolution sees
SHARE = 16  # Δ is a projection of rank D / 16


class Selective(nnx.Module):
    """E = 2D channels, each with N states (Gu & Dao 2023):

        u = silu(conv(W_u x)),  Δ = softplus(W_Δ W_r u + b),  B = W_B u,  C = W_C u
        h_t = exp(Δ_t A) h_{t−1} + Δ_t B_t u_t,  A = −exp(rate) < 0, diagonal
        y_t = C_t · h_t + s ⊙ u_t,  out = W_o (y ⊙ silu(W_g x))

    Tap `state` sees h [B, P, N, E] at the tokens whose logits are wanted; replacing it changes the output there, not
    the states of later tokens. If a tap wants it, the states of all tokens are stored.
    """

    def __init__(self, spec: Any, rngs: nnx.Rngs):
        channels, states = EXPANSION * spec.width, spec.states

        def linear(inward: int, outward: int) -> nnx.Linear:
            return nnx.Linear(inward, outward, use_bias=False, rngs=rngs)

        self.enter, self.gate = linear(spec.width, channels), linear(spec.width, channels)
        bound = KERNEL**-0.5
        self.convolution = nnx.Param(jax.random.uniform(rngs(), (KERNEL, channels), minval=-bound, maxval=bound))
        self.convolution_bias = nnx.Param(jnp.zeros(channels))
        self.rank = linear(channels, -(-spec.width // SHARE))
        self.delta = linear(-(-spec.width // SHARE), channels)
        # Δ starts log-uniform in [1e-3, 1e-1]: channels remember from ten tokens to a thousand.
        delta = jnp.exp(jax.random.uniform(rngs(), channels, minval=jnp.log(1e-3), maxval=jnp.log(1e-1)))
        self.delta_bias = nnx.Param(delta + jnp.log(-jnp.expm1(-delta)))  # softplus⁻¹
        self.write, self.read = linear(channels, states), linear(channels, states)
        self.rate = nnx.Param(jnp.log(jnp.tile(jnp.arange(1.0, states + 1)[:, None], (1, channels))))
        self.skip = nnx.Param(jnp.ones(channels))
        self.leave = linear(channels, spec.width)

    def __call__(self, x_BTD: Array, rows_Q: Rows, tokens_P: Rows, tap: LayerTap) -> Array:
        u_BTE = jax.nn.silu(convolve(dense(self.enter, x_BTD), self.convolution[...]) + self.convolution_bias[...])
        delta_BTE = jax.nn.softplus(dense(self.delta, dense(self.rank, u_BTE)) + self.delta_bias[...])
        write_BTN, read_BTN = dense(self.write, u_BTE), dense(self.read, u_BTE)
        y_BTE, state_BTNE = scan(
            delta_BTE, delta_BTE * u_BTE, write_BTN, read_BTN, -jnp.exp(self.rate[...]), keep=tap.wants("state")
        )
        if tap.wants("state"):
            state_BPNE = tap("state", state_BTNE[:, tokens_P])
            y_BTE = y_BTE.at[:, tokens_P].set(jnp.einsum("bpne,bpn->bpe", state_BPNE, read_BTN[:, tokens_P]))
        y_BQE = take(y_BTE + self.skip[...] * u_BTE, rows_Q)
        return dense(self.leave, y_BQE * jax.nn.silu(dense(self.gate, take(x_BTD, rows_Q))))


def convolve(x_BTE: Array, kernel_KE: Array) -> Array:
    """[B, T, E]: Σ_k kernel_k x_{t−k} in each channel; tokens before the first count as zero."""
    last = len(kernel_KE) - 1
    padded = jnp.pad(x_BTE, ((0, 0), (last, 0), (0, 0)))
    first, *others = (weight * padded[:, last - k :][:, : x_BTE.shape[1]] for k, weight in enumerate(kernel_KE))
    return sum(others, first)


def scan(
    delta_BTE: Array,
    input_BTE: Array,
    write_BTN: Array,
    read_BTN: Array,
    a_NE: Array,
    keep: bool = False,
    chunk: int | None = None,
) -> tuple[Array, Any]:
    """[B, T, E]: y_t = C_t · h_t with h_t = exp(Δ_t A) h_{t−1} + B_t input_t; with `keep`, also h [B, T, N, E].

    The recurrence is linear, so steps compose: (a', b') after (a, b) is (a' a, a' b + b'), and an associative scan
    computes a chunk in logarithmic depth. Chunks are sequential and pass the state on. The associative scan does twice
    the work, which a CPU does not gain from: there a chunk is one token.
    """
    batch, length, _ = delta_BTE.shape
    chunk = min(chunk or (1 if jax.default_backend() == "cpu" else CHUNK), length)
    blocks = -(-length // chunk)

    def cut(x: Array) -> Array:  # [B, T, …] → [blocks, chunk, B, …] or [T, B, …]; time first: a step is contiguous
        x = jnp.pad(x, ((0, 0), (0, blocks * chunk - length), (0, 0)))
        return jnp.swapaxes(x, 0, 1).reshape(blocks, *([chunk] if chunk > 1 else []), batch, -1)

    def compose(early: tuple[Array, Array], late: tuple[Array, Array]) -> tuple[Array, Array]:
        return late[0] * early[0], late[0] * early[1] + late[1]

    def block(state_BNE: Array, parts: tuple[Array, ...]) -> tuple[Array, Any]:
        delta, inward, write, read = parts
        decays, states = jnp.exp(delta[..., None, :] * a_NE), inward[..., None, :] * write[..., None]
        if chunk > 1:
            decays, states = lax.associative_scan(compose, (decays, states))
        states = states + decays * state_BNE
        y = jnp.sum(states * read[..., None], axis=-2)
        return states[-1] if chunk > 1 else states, (y, states if keep else None)

    start = jnp.zeros((batch, *a_NE.shape))
    _, pieces = lax.scan(block, start, tuple(map(cut, (delta_BTE, input_BTE, write_BTN, read_BTN))))

    def join(x: Array) -> Array:
        x = x.reshape(blocks * chunk, *x.shape[1 + (chunk > 1) :])
        return jnp.swapaxes(x[:length], 0, 1)

    return jax.tree.map(join, pieces)

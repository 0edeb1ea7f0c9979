"""A state-space dual: a linear recurrence with one decay for a head, computed as matrix products (Mamba-2).

In the shapes of this file, E is the channels, H the heads, d the channels of a head and N the states of a channel; G is
the chunks, and C and J are tokens of a chunk, those that read and those that are read.
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
from windtunnel.models.ssm import EXPANSION, KERNEL, convolve
from windtunnel.models.tap import LayerTap

CHUNK = 64  # tokens: within a chunk the products are quadratic, between chunks a state is handed on
DECAYS = (1.0, 16.0)  # −a starts uniform in this range, as published


class Dual(nnx.Module):
    """E = 2D channels in H heads of d, each head with a matrix of N × d as its state (Dao & Gu 2024):

        u, B, C = silu(conv(W_u x, W_B x, W_C x)),  Δ = softplus(W_Δ x + b) [H],  a = −exp(rate) < 0 [H]
        h_t = exp(Δ_t a) h_{t−1} + Δ_t B_t u_tᵀ,  y_t = C_tᵀ h_t + s u_t,  out = W_o norm(y ⊙ silu(W_g x))

    It is linear attention with a learned decay: C are queries, B keys, Δ u values, and N × d numbers hold what a head
    has bound. All heads share B and C.

    Tap `state` sees h [B, P, H, N, d] at the tokens whose logits are wanted; replacing it changes the output there, not
    the states of later tokens. Only then are states of single tokens computed.
    """

    def __init__(self, spec: Any, rngs: nnx.Rngs):
        channels, heads = EXPANSION * spec.width, EXPANSION * spec.width // spec.head
        self.heads = heads

        def linear(inward: int, outward: int) -> nnx.Linear:
            return nnx.Linear(inward, outward, use_bias=False, rngs=rngs)

        self.enter, self.gate = linear(spec.width, channels), linear(spec.width, channels)
        self.write, self.read = linear(spec.width, spec.states), linear(spec.width, spec.states)
        self.delta = linear(spec.width, heads)
        bound, mixed = KERNEL**-0.5, channels + 2 * spec.states
        self.convolution = nnx.Param(jax.random.uniform(rngs(), (KERNEL, mixed), minval=-bound, maxval=bound))
        self.convolution_bias = nnx.Param(jnp.zeros(mixed))
        # Δ starts log-uniform in [1e-3, 1e-1]: with the decays, heads remember from a token to a thousand.
        delta = jnp.exp(jax.random.uniform(rngs(), heads, minval=jnp.log(1e-3), maxval=jnp.log(1e-1)))
        self.delta_bias = nnx.Param(delta + jnp.log(-jnp.expm1(-delta)))  # softplus⁻¹
        low, high = DECAYS
        self.rate = nnx.Param(jnp.log(jax.random.uniform(rngs(), heads, minval=low, maxval=high)))
        self.skip = nnx.Param(jnp.ones(heads))
        self.norm = nnx.RMSNorm(channels, rngs=rngs)
        self.leave = linear(channels, spec.width)

    def __call__(self, x_BTD: Array, rows_Q: Rows, tokens_P: Rows, tap: LayerTap) -> Array:
        parts = [dense(layer, x_BTD) for layer in (self.enter, self.write, self.read)]
        mixed_BTM = jax.nn.silu(
            convolve(jnp.concatenate(parts, axis=2), self.convolution[...]) + self.convolution_bias[...]
        )
        channels, states = parts[0].shape[2], parts[1].shape[2]
        u_BTE, write_BTN, read_BTN = jnp.split(mixed_BTM, [channels, channels + states], axis=2)
        u_BTHd = u_BTE.reshape(*u_BTE.shape[:2], self.heads, -1)
        delta_BTH = jax.nn.softplus(dense(self.delta, x_BTD) + self.delta_bias[...])
        recurrence = -jnp.exp(self.rate[...]) * delta_BTH, delta_BTH[..., None] * u_BTHd, write_BTN
        y_BTHd = read_out(*recurrence, read_BTN)
        if tap.wants("state"):
            state_BPHNd = tap("state", states_of(*recurrence)[:, tokens_P])
            y_BTHd = y_BTHd.at[:, tokens_P].set(jnp.einsum("bphnd,bpn->bphd", state_BPHNd, read_BTN[:, tokens_P]))
        y_BTE = (y_BTHd + self.skip[...][:, None] * u_BTHd).reshape(u_BTE.shape)
        gated_BQE = take(y_BTE, rows_Q) * jax.nn.silu(dense(self.gate, take(x_BTD, rows_Q)))
        return dense(self.leave, self.norm(gated_BQE))


def read_out(log_decay_BTH: Array, input_BTHd: Array, write_BTN: Array, read_BTN: Array, chunk: int = CHUNK) -> Array:
    """[B, T, H, d]: y_t = C_tᵀ h_t with h_t = exp(ℓ_t) h_{t−1} + B_t input_tᵀ, ℓ the log-decay.

    With c the sum of ℓ from the beginning of a chunk, and h the state before it,

        y_i = Σ_{j ≤ i} exp(c_i − c_j) (C_i · B_j) input_j + exp(c_i) C_iᵀ h,

    the first within a chunk, as attention without a softmax, the second from all earlier chunks.
    """
    batch, length, heads, size = input_BTHd.shape
    chunk = min(chunk, length)
    count = -(-length // chunk)

    def cut(x_BT: Array) -> Array:  # [B, T, …] → [G, B, C, …]
        x_BT = jnp.pad(x_BT, ((0, 0), (0, count * chunk - length), *[(0, 0)] * (x_BT.ndim - 2)))
        return jnp.moveaxis(x_BT.reshape(batch, count, chunk, *x_BT.shape[2:]), 1, 0)

    input_GBHCd = jnp.swapaxes(cut(input_BTHd), 2, 3)
    write_GBCN, read_GBCN = cut(write_BTN), cut(read_BTN)
    since_GBHC = jnp.cumsum(jnp.swapaxes(cut(log_decay_BTH), 2, 3), axis=-1)
    end_GBH1 = since_GBHC[..., -1:]
    visible_CJ = jnp.tril(jnp.ones((chunk, chunk), bool))
    log_weight_GBHCJ = jnp.where(visible_CJ, since_GBHC[..., :, None] - since_GBHC[..., None, :], -jnp.inf)
    score_GBCJ = read_GBCN @ jnp.swapaxes(write_GBCN, 2, 3)
    y_GBHCd = (score_GBCJ[:, :, None] * jnp.exp(log_weight_GBHCJ)) @ input_GBHCd
    if count > 1:
        kept_GBHCd = jnp.exp(end_GBH1 - since_GBHC)[..., None] * input_GBHCd
        own_GBHNd = jnp.swapaxes(write_GBCN, 2, 3)[:, :, None] @ kept_GBHCd

        def hand_on(state_BHNd: Array, parts: tuple[Array, Array]) -> tuple[Array, Array]:
            own, end_BH1 = parts
            return own + jnp.exp(end_BH1)[..., None] * state_BHNd, state_BHNd

        _, before_GBHNd = lax.scan(hand_on, jnp.zeros_like(own_GBHNd[0]), (own_GBHNd, end_GBH1))
        y_GBHCd += jnp.exp(since_GBHC)[..., None] * (read_GBCN[:, :, None] @ before_GBHNd)
    return jnp.moveaxis(y_GBHCd, 0, 1).swapaxes(2, 3).reshape(batch, count * chunk, heads, size)[:, :length]


def states_of(log_decay_BTH: Array, input_BTHd: Array, write_BTN: Array) -> Array:
    """[B, T, H, N, d]: h_t, token after token."""

    def step(state_BHNd: Array, parts: tuple[Array, ...]) -> tuple[Array, Array]:
        log_decay_BH, input_BHd, write_BN = parts
        added_BHNd = write_BN[:, None, :, None] * input_BHd[:, :, None, :]
        state_BHNd = jnp.exp(log_decay_BH)[..., None, None] * state_BHNd + added_BHNd
        return state_BHNd, state_BHNd

    batch, _, heads, size = input_BTHd.shape
    start = jnp.zeros((batch, heads, write_BTN.shape[-1], size), input_BTHd.dtype)
    parts = tuple(jnp.swapaxes(x, 0, 1) for x in (log_decay_BTH, input_BTHd, write_BTN))
    return jnp.swapaxes(lax.scan(step, start, parts)[1], 0, 1)

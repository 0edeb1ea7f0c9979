"""An external memory, read and written by attention, beside attention to the last tokens.

In shapes, M is the slots and d the width of a head.
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

KEEPS = 4.0  # the logit with which matrices start to keep what they hold


class Memory(nnx.Module):
    """A layer of `Residual` that adds z − x, token after token:

        u = x + local(x);   z = u + W read(memory, u);   z ← z + mlp(norm z);   memory ← write(memory, z)

    where local attention sees the last `window` tokens. What is written depends on what was read, so the memory can
    hold a belief that is updated, not only tokens.

    Tap `memory` sees what each token reads from, at the tokens whose logits are wanted: [B, P, M, D] slots or
    [B, P, N, d, d] matrices. Replacing it changes the output there, not the memory at later tokens. If a tap wants it,
    the memory of all tokens is stored.
    """

    def __init__(self, spec: Any, rngs: nnx.Rngs):
        self.local = nnx.data(Local(spec, rngs) if spec.window else None)
        self.store = (Slots if spec.store == "slots" else Delta)(spec, rngs)
        self.output = nnx.Linear(spec.width, spec.width, use_bias=False, rngs=rngs)
        self.norm = nnx.RMSNorm(spec.width, rngs=rngs)
        self.up = nnx.Linear(spec.width, spec.hidden, rngs=rngs)
        self.down = nnx.Linear(spec.hidden, spec.width, rngs=rngs)

    def __call__(self, x_BTD: Array, rows_Q: Rows, tokens_P: Rows, tap: LayerTap) -> Array:
        u_BTD, keep = x_BTD if self.local is None else x_BTD + self.local(x_BTD), tap.wants("memory")

        def step(memory: Array, u_BD: Array) -> tuple[Array, tuple[Array, Any]]:
            z_BD = self.thought(memory, u_BD)
            return self.store.write(memory, z_BD), (z_BD, memory if keep else None)

        _, (z_TBD, memory_TB) = lax.scan(step, self.store.first(len(x_BTD)), jnp.swapaxes(u_BTD, 0, 1))
        if keep:
            memory_BP = tap("memory", jnp.swapaxes(memory_TB, 0, 1)[:, tokens_P])
            u_PBD = jnp.swapaxes(u_BTD[:, tokens_P], 0, 1)
            z_PBD = lax.map(lambda pair: self.thought(*pair), (jnp.swapaxes(memory_BP, 0, 1), u_PBD))
            z_TBD = z_TBD.at[tokens_P].set(z_PBD)
        return take(jnp.swapaxes(z_TBD, 0, 1) - x_BTD, rows_Q)

    def thought(self, memory: Array, u_BD: Array) -> Array:
        """z [B, D]"""
        z_BD = u_BD + self.output(self.store.read(memory, u_BD))
        return z_BD + self.down(jax.nn.gelu(self.up(self.norm(z_BD))))


class Local(nnx.Module):
    """Causal attention to the last W tokens, the own one included, with a learned prior over lags. A block of W queries
    sees its own keys and those of the block before: time and memory are linear in the length.
    """

    def __init__(self, spec: Any, rngs: nnx.Rngs):
        self.heads, self.window = spec.heads, spec.window
        self.query, self.key, self.value, self.output = (
            nnx.Linear(spec.width, spec.width, use_bias=False, rngs=rngs) for _ in range(4)
        )
        self.log_lag = nnx.Param(-(4.0 ** -jnp.arange(1.0, spec.heads + 1))[:, None] * jnp.arange(float(spec.window)))

    def __call__(self, x_BTD: Array) -> Array:
        batch, length, width = x_BTD.shape
        window, blocks = self.window, -(-length // self.window)

        def cut(layer: nnx.Linear) -> Array:  # [B, blocks, W, N, d]
            padded = jnp.pad(dense(layer, x_BTD), ((0, 0), (0, blocks * window - length), (0, 0)))
            return padded.reshape(batch, blocks, window, self.heads, -1)

        def with_last(x: Array) -> Array:  # [B, blocks, 2W, N, d]
            return jnp.concatenate([jnp.pad(x, ((0, 0), (1, 0), *[(0, 0)] * 3))[:, :-1], x], axis=2)

        q, k, v = cut(self.query), with_last(cut(self.key)), with_last(cut(self.value))
        lag_WK = window + jnp.arange(window)[:, None] - jnp.arange(2 * window)[None]
        first_G1K = (jnp.arange(2 * window) < window)[None, None] & (jnp.arange(blocks) == 0)[:, None, None]
        visible_GWK = ((lag_WK >= 0) & (lag_WK < window))[None] & ~first_G1K
        prior_NWK = self.log_lag[...][:, jnp.clip(lag_WK, 0, window - 1)]
        scores = jnp.einsum("bgwnd,bgknd->bgnwk", q, k) / jnp.sqrt(q.shape[-1]) + prior_NWK
        weights = jax.nn.softmax(jnp.where(visible_GWK[None, :, None], scores, -jnp.inf))
        context = jnp.einsum("bgnwk,bgknd->bgwnd", weights, v).reshape(batch, -1, width)
        return dense(self.output, context[:, :length])


class Slots(nnx.Module):
    """M slots of D numbers with learned names n_m, read and written by attention, erased and added to (Graves et al.
    2014):

        k_m = n_m + W S_m;   read(u) = Σ_m α_m S_m,  α = softmax(q(u)·k/√D)
        write(z): S_m ← S_m + w_m g ⊙ (a − S_m),  w = softmax(q'(z)·k/√D),  g = σ(W_g z),  a = tanh(W_a z)
    """

    def __init__(self, spec: Any, rngs: nnx.Rngs):
        self.names = nnx.Param(jax.random.normal(rngs(), (spec.slots, spec.width)))
        self.start = nnx.Param(0.1 * jax.random.normal(rngs(), (spec.slots, spec.width)))
        self.content = nnx.Linear(spec.width, spec.width, use_bias=False, rngs=rngs)
        self.ask, self.address, self.gate, self.add = (nnx.Linear(spec.width, spec.width, rngs=rngs) for _ in range(4))

    def first(self, batch: int) -> Array:
        return jnp.broadcast_to(self.start[...], (batch, *self.start.shape))

    def weights(self, query_BD: Array, slots_BMD: Array) -> Array:
        keys_BMD = self.names[...] + dense(self.content, slots_BMD)
        return jax.nn.softmax(jnp.einsum("bd,bmd->bm", query_BD, keys_BMD) / jnp.sqrt(query_BD.shape[-1]))

    def read(self, slots_BMD: Array, u_BD: Array) -> Array:
        return jnp.einsum("bm,bmd->bd", self.weights(self.ask(u_BD), slots_BMD), slots_BMD)

    def write(self, slots_BMD: Array, z_BD: Array) -> Array:
        share_BM = self.weights(self.address(z_BD), slots_BMD)
        gate_BMD = share_BM[..., None] * jax.nn.sigmoid(self.gate(z_BD))[:, None]
        return slots_BMD + gate_BMD * (jnp.tanh(self.add(z_BD))[:, None] - slots_BMD)


class Delta(nnx.Module):
    """A matrix S [d, d] for each of N heads, read by a product and written by the gated delta rule (Yang et al. 2024):

        read(u) = S q(u);   write(z): S ← α S (I − β k kᵀ) + β v kᵀ,  |q| = |k| = 1, β ∈ (0, 2), α ∈ (0, 1)

    which replaces what S says of k by v, so it holds at most d pairs whose keys are told apart.
    """

    def __init__(self, spec: Any, rngs: nnx.Rngs):
        self.shape = (spec.heads, spec.width // spec.heads)
        self.query, self.key, self.value = (
            nnx.Linear(spec.width, spec.width, use_bias=False, rngs=rngs) for _ in range(3)
        )
        self.gates = nnx.Linear(spec.width, 2 * spec.heads, rngs=rngs)

    def first(self, batch: int) -> Array:
        return jnp.zeros((batch, *self.shape, self.shape[1]))

    def read(self, s_BNdd: Array, u_BD: Array) -> Array:
        q_BNd = unit(self.query(u_BD).reshape(-1, *self.shape))
        return jnp.einsum("bnvk,bnk->bnv", s_BNdd, q_BNd).reshape(u_BD.shape)

    def write(self, s_BNdd: Array, z_BD: Array) -> Array:
        k_BNd, v_BNd = (layer(z_BD).reshape(-1, *self.shape) for layer in (self.key, self.value))
        k_BNd = unit(k_BNd)
        beta_BN, keep_BN = jnp.split(self.gates(z_BD), 2, axis=-1)
        beta_BN, keep_BN = 2 * jax.nn.sigmoid(beta_BN), jax.nn.sigmoid(keep_BN + KEEPS)
        kept_BNdd = keep_BN[..., None, None] * s_BNdd
        change_BNd = v_BNd - jnp.einsum("bnvk,bnk->bnv", kept_BNdd, k_BNd)
        return kept_BNdd + beta_BN[..., None, None] * change_BNd[..., None] * k_BNd[:, :, None]


def unit(x: Array) -> Array:
    return x / jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)

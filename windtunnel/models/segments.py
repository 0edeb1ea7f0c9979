"""Attention within segments, and memory tokens that carry on from one segment to the next.

In shapes, G is the segments of a sequence, C the tokens of one, and M the memory tokens.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array

from windtunnel.models import Segments as Spec
from windtunnel.models import Shape
from windtunnel.models.attention import take
from windtunnel.models.blocks import Reading
from windtunnel.models.position import Alibi
from windtunnel.models.residual import dense, embed, embedding, in_order, numbered
from windtunnel.models.score import Rows
from windtunnel.models.tap import Closed, Tap, as_tap
from windtunnel.models.transformer import Layer


class Segments(nnx.Module):
    """A causal transformer over [memory | segment | memory + w], with ALiBi. What its last M tokens become, normalised,
    is the memory that the next segment starts from (Bulatov et al. 2022); the first memory is learned.

    The memory is written where a segment ends, so what is predicted depends on where a sequence is cut: that is the
    model's, no error of arithmetic. The parameters do not depend on the length of a segment.

    Taps, in order: `embedding`; `memory` [B, G, M, D], before each segment; `residual`, after the last layer; `logits`;
    all at depth 0. Replacing `memory` changes the output of its segment, not the later memories.
    """

    def __init__(self, spec: Spec, shape: Shape, rngs: nnx.Rngs):
        self.segment, self.memory = spec.segment, spec.memory
        self.embedding = embedding(shape, spec.width, rngs)
        length = spec.segment + 2 * spec.memory
        self.layers = numbered([Layer(spec, Alibi(), length, rngs) for _ in range(spec.layers)])  # pyrefly: ignore[bad-argument-type]
        self.first, self.write = (
            nnx.Param(jax.random.normal(rngs(), (spec.memory, spec.width))) for _ in ("memory", "w")
        )
        self.norm_memory = nnx.RMSNorm(spec.width, rngs=rngs)
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
        x_BTD = tap(0, "embedding", embed(self.embedding, inputs))
        batch, length, width = x_BTD.shape
        segments = -(-length // self.segment)
        padded = jnp.pad(x_BTD, ((0, 0), (0, segments * self.segment - length), (0, 0)))
        x_GBCD = jnp.moveaxis(padded.reshape(batch, segments, self.segment, width), 1, 0)

        def step(memory_BMD: Array, x_BCD: Array) -> tuple[Array, tuple[Array, Array]]:
            next_BMD, y_BCD = self.read_and_write(memory_BMD, x_BCD)
            return next_BMD, (memory_BMD, y_BCD)

        _, (memory_GBMD, y_GBCD) = lax.scan(step, jnp.broadcast_to(self.first[...], (batch, *self.first.shape)), x_GBCD)
        if tap.wants("memory"):
            memory_GBMD = jnp.moveaxis(tap(0, "memory", jnp.moveaxis(memory_GBMD, 0, 1)), 1, 0)
            _, y_GBCD = lax.map(lambda pair: self.read_and_write(*pair), (memory_GBMD, x_GBCD))
        y_BTD = jnp.moveaxis(y_GBCD, 0, 1).reshape(batch, -1, width)
        return tap(0, "logits", dense(self.head, self.norm(tap(0, "residual", take(y_BTD, tokens)))))

    def read_and_write(self, memory_BMD: Array, x_BCD: Array) -> tuple[Array, Array]:
        """The next memory, and the residual stream of a segment."""
        z = jnp.concatenate([memory_BMD, x_BCD, memory_BMD + self.write[...]], axis=1)
        every = np.arange(z.shape[1])
        for layer in in_order(self.layers):
            z = layer(z, jnp.asarray(every), every, every, Closed().at(0), None)
        return self.norm_memory(z[:, -self.memory :]), z[:, self.memory : -self.memory]

"""Causal attention with a positional prior in its score: α_ij ∝ exp(q_i·k_j / √d + log p(position))."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from windtunnel.models.blocks import Reading, attend
from windtunnel.models.inference import EXACT, Inference
from windtunnel.models.position import Position
from windtunnel.models.score import Rows, Score, log_evidence, scores
from windtunnel.models.tap import LayerTap


class Fitted(nnx.Variable):
    """What is fitted after training and has no gradient; NaN until then."""


class Attention(nnx.Module):
    """Multi-head attention. Its projections are separate, so that routing (Q, K) can be distinguished from content (V,
    O). Heads that a gate weighs by their evidence have one content for all of them and differ in their priors, as
    hypotheses do that explain the same data (`router.py`).

    The scalable softmax starts with s = 1 / ln T: at the end of a training sequence it then equals the plain one.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        position: Position,
        softmax: str,
        length: int,
        rngs: nnx.Rngs,
        inference: Inference = EXACT,
        every: bool = False,
        router: Any = None,
    ):
        self.router = nnx.data(router)
        self.heads, self.every = heads, every
        self.inference = nnx.data(inference)
        self.inside = softmax == "scalable_inside"
        self.position = nnx.data(position)
        self.codebook = nnx.Dict(
            {
                name: Fitted(jnp.full(shape, jnp.nan))
                for name, shape in inference.codebook(heads, width // heads).items()
            }
        )
        self.learned = nnx.Dict(
            {name: nnx.Param(value) for name, value in position.parameters(rngs(), heads, width, length).items()}
        )
        plain = softmax == "plain"
        self.sharpness = nnx.data(None if plain else nnx.Param(jnp.full(heads, 1 / math.log(max(length, 2)))))
        self.alike = router is not None and router.alike
        content = width // heads if self.alike else width
        self.query, self.key, self.value, self.output = (
            nnx.Linear(width, size, use_bias=False, rngs=rngs) for size in (content, content, width, width)
        )

    def learned_parameters(self) -> dict[str, Array]:
        return {name: parameter[...] for name, parameter in self.learned.items()}

    def __call__(
        self,
        x_BTD: Array,
        positions_T: Array,
        rows_Q: Rows,
        tokens_P: Rows,
        tap: LayerTap,
        readings: list[Reading] | None = None,
    ) -> Array:
        """[B, Q, D]: what attention adds to the residual stream at the tokens `rows_Q`.

        A tap sees scores and attention at `tokens_P` only; both are stored only if a tap wants them. A `Reading` of how
        attention was computed is appended to `readings`.
        """
        batch, _, width = x_BTD.shape
        learned = self.learned_parameters()

        def project(x: Array, *linears: nnx.Linear) -> list[Array]:
            """[B, N, T, d] for each of `linears`. One product of flat tokens for all: 2 to 5 times faster on a CPU."""
            kernel = jnp.concatenate([linear.kernel[...] for linear in linears], axis=1)
            y = (x.reshape(-1, width) @ kernel).reshape(batch, x.shape[1], len(linears), -1, width // self.heads)
            y = y.transpose(2, 0, 3, 1, 4)
            return list(jnp.broadcast_to(y, (*y.shape[:2], self.heads, *y.shape[3:])))

        sharpness_N = None if self.sharpness is None else self.sharpness[...]
        score = Score(self.position, learned, positions_T, sharpness_N, self.heads, self.inside, self.every)
        if self.alike:
            q, k, v = (
                project(x, of)[0]
                for x, of in ((take(x_BTD, rows_Q), self.query), (x_BTD, self.key), (x_BTD, self.value))
            )
        elif isinstance(rows_Q, np.ndarray) and len(rows_Q) == x_BTD.shape[1]:
            q, k, v = project(x_BTD, self.query, self.key, self.value)
        else:
            (q,), (k, v) = project(take(x_BTD, rows_Q), self.query), project(x_BTD, self.key, self.value)
        q = self.position.rotate(learned, q, positions_T[rows_Q])
        k = self.position.rotate_keys(learned, k, positions_T)
        q, k, v = tap("queries", q), tap("keys", k), tap("values", v)
        q = score.sharpened(q, rows_Q)
        codebook = {name: variable[...] for name, variable in self.codebook.items()}
        context_BNQd, reading = attend(q, k, v, rows_Q, score, self.inference, codebook)
        if readings is not None:
            readings.append(reading)
        if tap.wants("scores", "attention"):
            here_P = jnp.searchsorted(rows_Q, tokens_P)
            scores_BNPT = tap("scores", scores(q[:, :, here_P], k, tokens_P, score))
            attention_BNPT = tap("attention", jax.nn.softmax(scores_BNPT, axis=-1))
            context_BNQd = context_BNQd.at[:, :, here_P].set(attention_BNPT @ v)
        context_BNQd = tap("context", context_BNQd)
        if self.router is not None:

            def evidence() -> Array:
                every_T = np.arange(x_BTD.shape[1])
                q_BNTd = self.position.rotate(learned, project(x_BTD, self.query)[0], positions_T)
                return log_evidence(score.sharpened(q_BNTd, every_T), k, score)

            context_BNQd = self.router(x_BTD, rows_Q, context_BNQd, evidence, tap)
        flat = context_BNQd.transpose(0, 2, 1, 3).reshape(-1, width)
        return self.output(flat).reshape(batch, -1, width)


def take(x_BTD: Array, rows: Rows) -> Array:
    """x[:, rows]. Evenly spaced rows that are known at compile time are a slice, since a gather's gradient is slow."""
    if isinstance(rows, np.ndarray) and len(rows) and len(set(np.diff(rows))) <= 1:
        return x_BTD[:, rows[0] : rows[-1] + 1 : rows[1] - rows[0] if len(rows) > 1 else 1]
    return x_BTD[:, rows]

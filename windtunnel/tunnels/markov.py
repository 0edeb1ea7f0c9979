"""`markov` (accumulate): the next symbol of a chain whose transitions are in the context. After Edelman et al. 2024.

In the shapes of this file, C is the contexts, k the symbols, o the order, p the pairs of context and symbol, and S the
transitions that are inputs.
"""

import functools
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma
from jaxtyping import Array
from pydantic import Field

from windtunnel.spec import Positive, spec
from windtunnel.tunnels import answers
from windtunnel.tunnels.answers import Frame, Law
from windtunnel.tunnels.base import Batch, Tunnel, uniform


@spec
class Markov(Tunnel):
    """Every context b (the last `order` symbols) has its own distribution over the next of k symbols, drawn from
    Dirichlet(a, …, a) for each sequence; the first `order` symbols are uniform. Predict each symbol after them.
    With n(b, c) the times that c has followed b,

        p(c | past) = (a + n(b, c)) / (k a + n(b)),      P(x) = Π_b Γ(ka) / Γ(ka + n(b)) Π_c Γ(a + n(b, c)) / Γ(a).

    The first symbols are uniform. Edelman et al. draw them from the stationary distribution, but that would carry
    information about the rows, and the formula above would not be exact. They are not predicted.

    The tokens are a start (k) and then the symbols. An observation is a transition: the t-th is from tokens t+1 …
    t+order to the next symbol. Attention needs the start to know n(b): in a sequence of one repeated symbol, an average
    over identical tokens does not depend on their number. With k = 2, a = 1 and order 1, `0 1 0 0` shows 0→1, 1→0 and
    0→0, so p(1) = (1 + 1) / (2 + 2). With order 0 there is one context, and symbols are throws of one die of unknown
    bias.
    """

    name: Literal["markov"] = "markov"
    symbols: Annotated[int, Field(ge=2, le=10)] = 3
    order: Annotated[int, Field(ge=0, le=2)] = 1
    concentration: Positive = 1.0

    hypothesis = "transition matrix"

    @property
    def outcomes(self) -> int:
        return self.symbols

    @property
    def vocabulary(self) -> int:
        return self.symbols + 1

    @property
    def contexts(self) -> int:
        return self.symbols**self.order

    @property
    def outcome_tokens(self) -> np.ndarray:
        return np.arange(self.outcomes)

    @property
    def start(self) -> int:
        return self.symbols

    @property
    def exchangeable(self) -> bool:
        return self.order == 0

    def tokens(self, observations: int) -> int:
        return observations + self.order

    def scored(self, observations: int) -> np.ndarray:
        return np.arange(observations) + self.order

    def sample(self, key: Array, tables: tuple[()], batch: int, observations: int) -> Batch:
        key_rows, key_start, key_chain = jax.random.split(key, 3)
        concentration_k = jnp.full(self.symbols, self.concentration)
        row_BCk = jax.random.dirichlet(key_rows, concentration_k, (batch, self.contexts))
        start_B = jax.random.randint(key_start, (batch,), 0, self.contexts)
        symbol_BP = self.chain(row_BCk, start_B, uniform(key_chain, (batch, observations)))
        # The digits of the first context, to the base k, are the first symbols.
        digit_o = self.symbols ** np.arange(self.order)[::-1]
        first_Bo = start_B[:, None] // digit_o[None] % self.symbols
        mark_B1 = jnp.full((batch, 1), self.symbols, jnp.int32)
        inputs = jnp.concatenate([mark_B1, first_Bo.astype(jnp.int32), symbol_BP[:, :-1]], axis=1)
        return Batch(inputs, symbol_BP, jnp.ones(symbol_BP.shape))

    def chain(self, row_BCk: Array, start_B: Array, level_BP: Array) -> Array:
        """int32[B, P]: the symbols that follow under these rows, at these levels of their cumulative sums."""
        cumulative_BCk = jnp.cumsum(row_BCk, axis=-1)[..., :-1]  # without the last, so that rounding cannot pass it
        above_BPCk = level_BP[:, :, None, None] >= cumulative_BCk[:, None]
        next_BPC = jnp.sum(above_BPCk, axis=-1, dtype=jnp.int32)  # the successor of every context

        def step(context: Array, next_C: Array) -> tuple[Array, Array]:
            symbol = next_C[context]
            return (context * self.symbols + symbol) % self.contexts, symbol

        return jax.vmap(lambda start, next_PC: jax.lax.scan(step, start, next_PC)[1])(start_B, next_BPC)

    def log_predictive(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        return self.log_last(tables, batch, at, batch.outcome_BP.shape[1])

    def log_last(self, tables: tuple[()], batch: Batch, at: Array, window: int) -> Array:
        """Laplace's rule on the last transitions only: it takes its window for a sequence of its own, whose first
        symbols are given (`marginalises`).
        """
        count_BTCk, context_BT = self._counts(batch)
        count_BPCk = count_BTCk[:, at] - count_BTCk[:, jnp.maximum(at - window, 0)]
        here_BPC = jax.nn.one_hot(context_BT[:, at], self.contexts, dtype=count_BPCk.dtype)
        weight_BPk = jnp.sum(here_BPC[..., None] * count_BPCk, axis=2) + self.concentration
        return jnp.log(weight_BPk) - jnp.log(jnp.sum(weight_BPk, axis=-1, keepdims=True))

    @property
    def independent(self) -> bool:  # pyrefly: ignore[bad-override]
        """Throws of one die are; in a chain the next context is the outcome itself."""
        return self.order == 0

    def aleatoric(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        """Of a row with posterior Dirichlet(α), A = Σ α: E[H] = ψ(A + 1) − Σ_v (α_v / A) ψ(α_v + 1)."""
        count_BTCk, context_BT = self._counts(batch)
        here_BPC = jax.nn.one_hot(context_BT[:, at], self.contexts, dtype=count_BTCk.dtype)
        weight_BPk = jnp.sum(here_BPC[..., None] * count_BTCk[:, at], axis=2) + self.concentration
        total_BP = jnp.sum(weight_BPk, axis=-1)
        each_BPk = weight_BPk / total_BP[..., None] * digamma(weight_BPk + 1)
        return digamma(total_BP + 1) - jnp.sum(each_BPk, axis=-1)

    def log_restarted(self, symbol_BT: Array, at: Array, of_BPV: Array) -> Array | None:
        """By counts, which differ by those before the beginning; with contexts, a run would not predict its first
        symbols.
        """
        if self.order:
            return None
        is_symbol_BTk = jax.nn.one_hot(symbol_BT, self.symbols, dtype=jnp.int32)
        count_BTk = jnp.pad(jnp.cumsum(is_symbol_BTk, axis=1), ((0, 0), (1, 0), (0, 0)))
        now_BP1V = jnp.take_along_axis(count_BTk[:, at], of_BPV, axis=-1)[:, :, None]
        before_BPSV = jnp.take_along_axis(count_BTk[:, None, :-1], of_BPV[:, :, None], axis=-1)
        count_BPSV = jnp.maximum(now_BP1V - before_BPSV, 0)
        length_PS = jnp.maximum(at[:, None] - jnp.arange(symbol_BT.shape[1])[None], 0)
        total_PS = length_PS + self.symbols * self.concentration
        return jnp.log(count_BPSV + self.concentration) - jnp.log(total_PS)[None, ..., None]

    def token_weights(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        """The symbols that have followed the current context, equally: their shares are n(b, ·) / n(b)."""
        inputs, token_P = batch.inputs, jnp.asarray(self.scored(batch.outcome_BP.shape[1]))[at]
        tokens = jnp.arange(inputs.shape[1])
        same_BPT = ((tokens[None] > self.order) & (tokens[None] <= token_P[:, None]))[None]
        for back in range(self.order):
            context_BP = inputs[:, token_P - back]
            same_BPT = same_BPT & (jnp.roll(inputs, back + 1, axis=1)[:, None] == context_BP[:, :, None])
        return answers.evenly(same_BPT)

    def frame(self, tables: tuple[()], batch: Batch) -> Frame:
        return answers.symbols(batch.inputs, self.outcomes)

    def reordered(self, key: Array, inputs_BT: Array) -> Array | None:
        """The excursions between visits of the first context, in another order: then every context is followed by the
        same symbols as often, and the last one is the same (Diaconis & Freedman 1980).
        """
        if self.order == 0:
            return super().reordered(key, inputs_BT)
        token_T = jnp.arange(inputs_BT.shape[1])
        first_Bo = inputs_BT[:, 1 : 1 + self.order]
        pieces = [jnp.roll(inputs_BT, self.order - 1 - i, axis=1) == first_Bo[:, i : i + 1] for i in range(self.order)]
        visits_BT = functools.reduce(jnp.logical_and, pieces) & (token_T >= self.order)[None]
        excursion_BT = jnp.cumsum(visits_BT, axis=1) - visits_BT  # an excursion ends with the visit
        moves_BT = (excursion_BT > 0) & (excursion_BT < jnp.max(excursion_BT + visits_BT, axis=1, keepdims=True))
        level_BT = jnp.take_along_axis(uniform(key, inputs_BT.shape), excursion_BT, axis=1)
        place_BT = jnp.where(moves_BT, level_BT, jnp.where(excursion_BT > 0, 2.0, -1.0))
        return jnp.take_along_axis(inputs_BT, jnp.argsort(place_BT, axis=1, stable=True), axis=1)

    def law(self, observations: int) -> Law:
        return Law("smooth", float(self.contexts * (self.symbols - 1)), "parameters")

    @property
    def marginalises(self) -> bool:
        """That a symbol is there at all says something about the rows that led to it: a sum over all that could have
        come before, which has no closed form. Without a context there is nothing to sum.
        """
        return self.order == 0

    def _counts(self, batch: Batch) -> tuple[Array, Array]:
        """n(b, c) before every observation, int32[B, T, C, k], and its context, int32[B, T]; from the inputs alone."""
        observations = batch.outcome_BP.shape[1]
        symbol_BT = batch.inputs[:, 1:]
        digits = [symbol_BT[:, i : i + observations] for i in range(self.order)]
        none_BT = jnp.zeros((symbol_BT.shape[0], observations), symbol_BT.dtype)  # the context of order 0
        context_BT = functools.reduce(lambda before_BT, digit_BT: before_BT * self.symbols + digit_BT, digits, none_BT)
        pair_BS = context_BT[:, :-1] * self.symbols + symbol_BT[:, self.order :]
        is_pair_BSp = jax.nn.one_hot(pair_BS, self.contexts * self.symbols, dtype=jnp.int32)
        count_BTp = jnp.pad(jnp.cumsum(is_pair_BSp, axis=1), ((0, 0), (1, 0), (0, 0)))
        return count_BTp.reshape(*context_BT.shape, self.contexts, self.symbols), context_BT

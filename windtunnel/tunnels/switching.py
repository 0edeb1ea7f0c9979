"""`switching` (accumulate, and forget): a die whose faces change at times that nothing marks.

In the shapes of this file, V is the faces, H the hazards, S the observations at which a run can have begun.
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import logsumexp
from jaxtyping import Array
from pydantic import Field

from windtunnel.spec import Knob, Positive, spec
from windtunnel.tunnels import answers, runs
from windtunnel.tunnels.answers import Frame
from windtunnel.tunnels.base import Batch, Tunnel, running_logsumexp, uniform
from windtunnel.tunnels.markov import Markov

Hazard = Annotated[float, Field(gt=0, lt=1), Knob]
MEMORIES = (2, 4, 8, 16, 32, 64)  # throws that count, of reasoners that forget exponentially


@spec
class Switching(Tunnel):
    """A die of V faces, whose probabilities are drawn from Dirichlet(a, …, a) at first and anew before each later throw
    with probability h, the hazard: one for each sequence, drawn uniformly from the `hazards`. Predict the next throw.
    With n_s(v) the throws that showed v since observation s,

        p(v) = Σ_{s,h} a_t(s, h) (a + n_s(v)) / (V a + t − s),

    a_t(s, h) the probability that the present faces began at s and that the hazard is h, by the recursion over run
    lengths of `runs.py` (Adams & MacKay 2007), at the cost T². Throws that are not seen sum to one, whatever the faces
    and the hazard, so `last-w` takes its window for a sequence of its own and is exact.

    Token t is the throw before observation t; token 0 is a start, V. Example: V = 2, a = 1, h = ½. After one throw, a
    0, the die is the same or another, each ½, so the next is 0 with probability ½·⅔ + ½·½ = 7/12.
    """

    name: Literal["switching"] = "switching"
    symbols: Annotated[int, Field(ge=2, le=10)] = 8
    concentration: Positive = 0.2
    hazards: Annotated[tuple[Hazard, ...], Field(min_length=1, max_length=16)] = (0.01, 0.5)

    hypothesis = "beginning of the present run"

    @property
    def outcomes(self) -> int:
        return self.symbols

    @property
    def vocabulary(self) -> int:
        return self.symbols + 1

    @property
    def outcome_tokens(self) -> np.ndarray:
        return np.arange(self.symbols)

    @property
    def start(self) -> int:
        return self.symbols

    @property
    def domain_count(self) -> int:
        return len(self.hazards)

    @property
    def _die(self) -> Markov:
        return Markov(symbols=self.symbols, order=0, concentration=self.concentration)

    def sample(self, key: Array, tables: tuple[()], batch: int, observations: int) -> Batch:
        """Throw after throw from the predictive of the present faces, which a run that begins forgets."""
        key_hazard, key_throws = jax.random.split(key)
        drawn_B = (uniform(key_hazard, (batch,)) * len(self.hazards)).astype(jnp.int32)
        hazard_B = jnp.stack([jnp.asarray(hazard, float) for hazard in self.hazards])[drawn_B]
        level_T2B = uniform(key_throws, (observations, 2, batch))

        def step(count_BV: Array, level_2B: Array) -> tuple[Array, Array]:
            count_BV = jnp.where((level_2B[0] < hazard_B)[:, None], 0.0, count_BV) + self.concentration
            below_BV = level_2B[1, :, None] * jnp.sum(count_BV, axis=1, keepdims=True) >= jnp.cumsum(count_BV, axis=1)
            throw_B = jnp.sum(below_BV[:, :-1], axis=1, dtype=jnp.int32)
            return count_BV - self.concentration + jax.nn.one_hot(throw_B, self.symbols), throw_B

        _, throw_TB = lax.scan(step, jnp.zeros((batch, self.symbols)), level_T2B)
        inputs_BT = jnp.pad(throw_TB.T[:, :-1], ((0, 0), (1, 0)), constant_values=self.symbols)
        return Batch(inputs_BT, throw_TB.T, jnp.ones(inputs_BT.shape))

    def _log_began(self, batch: Batch, at: Array) -> Array:
        """[B, P, S, H]: log a_t(s, h)."""
        return runs.log_began((self._die,), self.hazards, batch)[..., 0, :][:, at]

    def log_posterior(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        """[B, P, S]: over the beginnings of the present run; −inf for later ones."""
        return logsumexp(self._log_began(batch, at), axis=-1)

    def log_domains(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        """[B, P, H]: over the hazards, which are the domains of these prompts."""
        return logsumexp(self._log_began(batch, at), axis=2)

    def log_predictive(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        return runs.log_joint((self._die,), self.hazards, batch, at)[:, :, 0]

    def log_mixture(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        symbol_BT, _ = runs.symbols(batch)
        log_p_BPSV = runs.restarted((self._die,), symbol_BT, at)[:, :, :, 0]
        return logsumexp(self.log_posterior(tables, batch, at)[..., None] + log_p_BPSV, axis=2)

    def baselines(self, tables: tuple[()], batch: Batch, at: Array, horizon: int) -> dict[str, Array]:
        """Beside `last-w`: `no-switch`, who takes the die for one that stays; `forgetting-m`, whose counts decay by
        1 − 1/m with each throw; and where hazards are several, `one-hazard-i`, who is sure of the i-th, and `static`,
        who never learns which it is.
        """
        return {
            **runs.cut((self._die,), self.hazards, batch, at, {"prior": 0, **self.windows(horizon)}),
            "no-switch": self._die.log_predictive((), batch, at),
            **{f"forgetting-{memory}": self._forgetting(batch, at, 1 - 1 / memory) for memory in MEMORIES},
            **(self._of_one_hazard(batch, at) if len(self.hazards) > 1 else {}),
        }

    def _forgetting(self, batch: Batch, at: Array, decay: float) -> Array:
        symbol_BT, every = runs.symbols(batch)
        ago_PT = at[:, None] - 1 - every[None]
        weight_PT = jnp.where(ago_PT >= 0, decay ** jnp.maximum(ago_PT, 0).astype(float), 0.0)
        count_BPV = jnp.einsum("pt,btv->bpv", weight_PT, jax.nn.one_hot(symbol_BT, self.symbols)) + self.concentration
        return jnp.log(count_BPV / jnp.sum(count_BPV, axis=-1, keepdims=True))

    def _of_one_hazard(self, batch: Batch, at: Array) -> dict[str, Array]:
        each = [runs.log_joint((self._die,), hazard, batch, at)[:, :, 0] for hazard in self.hazards]
        named = {f"one-hazard-{number + 1}": log_p for number, log_p in enumerate(each)}
        return {**named, "static": logsumexp(jnp.stack(each), axis=0) - jnp.log(float(len(each)))}

    def token_weights(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        """A throw counts in every run that had begun by then: w_r ∝ Σ_{s≤r} a_t(s) / (V a + t − s)."""
        log_began_BPS = self.log_posterior(tables, batch, at)
        began_S = jnp.arange(batch.inputs.shape[1])
        length_PS = jnp.maximum(at[:, None] - began_S[None], 0)
        log_each_BPS = log_began_BPS - jnp.log(length_PS + self.symbols * self.concentration)[None]
        thrown_PS = began_S[None] < at[:, None]
        log_weight_BPS = jnp.where(thrown_PS[None], running_logsumexp(log_each_BPS, axis=2), -jnp.inf)
        normalised_BPS = jnp.where((at > 0)[None, :, None], jax.nn.log_softmax(log_weight_BPS, axis=-1), -jnp.inf)
        return jnp.pad(normalised_BPS[..., :-1], ((0, 0), (0, 0), (1, 0)), constant_values=-jnp.inf)

    def frame(self, tables: tuple[()], batch: Batch) -> Frame:
        return answers.symbols(batch.inputs, self.symbols)

"""`echo` (bind, by place alone): each symbol repeats an earlier one, and only how far back is known.

In the shapes of this file, W is the symbols of a window.
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import logsumexp
from jaxtyping import Array
from pydantic import Field

from windtunnel.priors import GeneralizedGaussian, Prior
from windtunnel.spec import Noise, spec
from windtunnel.tunnels import answers
from windtunnel.tunnels.answers import Frame
from windtunnel.tunnels.base import Batch, Tunnel, running_logsumexp, uniform, uniform_log_predictive
from windtunnel.tunnels.recall import by_blocks, truncated


@spec
class Echo(Tunnel):
    """With probability 1 − ε symbol t repeats the symbol at a lag d drawn from the prior, restricted to the symbols
    that exist (d = 0 is the last one); else, and at first, it is uniform. Predict each symbol. With π_t the prior over
    0 … t−1, normalised,

        p(v) = ε/V + (1−ε) Σ_d π_t(d) 1[o_{t−1−d} = v].

    One head without content is exactly this, its bias log π over the distance of tokens, if it leaves out the start.
    What a reasoner of the last w symbols should say is exponential, because those that it does not see repeat one
    another. So baselines are `cut-w`, which take the window for a sequence of its own: headroom is an upper bound.

    The tokens are a start (V) and then the symbols. With V = 2, ε = 0.2 and a uniform prior, after `0 1 1` the next is
    1 with probability 0.1 + 0.8 · ⅔.
    """

    name: Literal["echo"] = "echo"
    symbols: Annotated[int, Field(ge=2, le=100)] = 8
    noise: Noise = 0.1
    prior: Prior = GeneralizedGaussian(scale=3.0)

    hypothesis = "lag"

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
    def lag_prior(self) -> Prior:
        return self.prior

    @property
    def marginalises(self) -> bool:
        return False  # see the docstring

    def sample(self, key: Array, tables: tuple[()], batch: int, observations: int) -> Batch:
        level_B3T, time_T = uniform(key, (batch, 3, observations)), jnp.arange(observations)
        fresh_BT = (level_B3T[:, 0] * self.symbols).astype(jnp.int32)
        earlier_T = jnp.maximum(time_T - 1, 0)
        log_lag_T = self.prior.log_density(time_T.astype(level_B3T.dtype))
        source_BT = earlier_T[None] - truncated(log_lag_T, level_B3T[:, 1], earlier_T)
        is_fresh_BT = (level_B3T[:, 2] < self.noise) | (time_T == 0)[None]

        def step(t: Array, symbol_BT: Array) -> Array:
            repeated_B = jnp.take_along_axis(symbol_BT, source_BT[:, t][:, None], axis=1)[:, 0]
            return symbol_BT.at[:, t].set(jnp.where(is_fresh_BT[:, t], fresh_BT[:, t], repeated_B))

        symbol_BT = lax.fori_loop(0, observations, step, jnp.zeros_like(fresh_BT))
        inputs = jnp.pad(symbol_BT[:, :-1], ((0, 0), (1, 0)), constant_values=self.symbols)
        return Batch(inputs, symbol_BT, jnp.ones(symbol_BT.shape))

    def _log_lags(self, lag: Array, exists: Array) -> Array:
        """The log-prior of each lag, normalised over the last axis."""
        return jax.nn.log_softmax(jnp.where(exists, self.prior.log_density(lag.astype(float)), -jnp.inf), axis=-1)

    def log_posterior(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        """[B, P, T]: over the token that is repeated: the prior, since nothing speaks for a lag before the outcome is
        known. At first it is the start, whose echo is uniform.
        """
        lag_PT = at[:, None] - jnp.arange(batch.inputs.shape[1])[None]
        exists_PT = (lag_PT >= 0) & ((lag_PT < at[:, None]) | (at[:, None] == 0))
        return jnp.broadcast_to(self._log_lags(lag_PT, exists_PT)[None], (len(batch.inputs), *lag_PT.shape))

    def token_weights(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        """The posterior itself; nothing for the first symbol."""
        return jnp.where((at > 0)[None, :, None], self.log_posterior(tables, batch, at), -jnp.inf)

    def frame(self, tables: tuple[()], batch: Batch) -> Frame:
        return answers.symbols(batch.inputs, self.symbols)

    def log_mixture(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        is_symbol_BTV = jax.nn.one_hot(batch.inputs, self.symbols)
        is_start_BT1 = (batch.inputs == self.symbols)[..., None]
        channel_BTV = self.noise / self.symbols + (1 - self.noise) * is_symbol_BTV
        log_channel_BTV = jnp.log(jnp.where(is_start_BT1, 1 / self.symbols, channel_BTV))
        return logsumexp(self.log_posterior(tables, batch, at)[..., None] + log_channel_BTV[:, None], axis=2)

    def log_predictive(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        return self.log_last(tables, batch, at, batch.inputs.shape[1])

    def log_last(self, tables: tuple[()], batch: Batch, at: Array, window: int) -> Array:
        """Of a reasoner that takes the last symbols for a sequence of its own."""
        if window == 0:
            return uniform_log_predictive(len(batch.inputs), at, self.symbols)
        lag_W = jnp.arange(min(window, batch.inputs.shape[1]))

        def heard(at: Array) -> Array:
            token_PW = at[:, None] - lag_W[None]
            exists_PW = (token_PW > 0) | ((at == 0)[:, None] & (lag_W == 0)[None])  # one at least, for the softmax
            log_lag_PW = self._log_lags(jnp.broadcast_to(lag_W[None], token_PW.shape), exists_PW)
            symbol_BPW = batch.inputs[:, jnp.maximum(token_PW, 0)]
            is_symbol_BPWV = jax.nn.one_hot(symbol_BPW, self.symbols, dtype=bool)
            log_p_BPV = logsumexp(jnp.where(is_symbol_BPWV, log_lag_PW[None, ..., None], -jnp.inf), axis=2)
            log_p_BPV = jnp.logaddexp(log_p_BPV + jnp.log1p(-self.noise), jnp.log(self.noise / self.symbols))
            return jnp.where((at == 0)[None, :, None], -jnp.log(float(self.symbols)), log_p_BPV)

        return by_blocks(heard, batch, at, terms=len(lag_W) * self.symbols)

    def log_restarted(self, symbol_BT: Array, at: Array, of_BPV: Array) -> Array:
        """By sums over lags that begin with the last symbol, each one lag longer than the one before."""
        lag_PS = at[:, None] - 1 - jnp.arange(symbol_BT.shape[1])[None]
        log_lag_PS = jnp.where(lag_PS >= 0, self.prior.log_density(lag_PS.astype(float)), -jnp.inf)
        is_symbol_BPSV = symbol_BT[:, None, :, None] == of_BPV[:, :, None]
        log_lag_BPSV = jnp.where(is_symbol_BPSV, log_lag_PS[None, ..., None], -jnp.inf)
        log_mass_BPSV = running_logsumexp(log_lag_BPSV, axis=2, reverse=True)
        log_total_PS = running_logsumexp(log_lag_PS, axis=1, reverse=True)
        begun_PS = lag_PS >= 0  # else nothing can be repeated yet
        log_p_BPSV = log_mass_BPSV - jnp.where(begun_PS, log_total_PS, 0.0)[None, ..., None]
        log_p_BPSV = jnp.logaddexp(log_p_BPSV + jnp.log1p(-self.noise), jnp.log(self.noise / self.symbols))
        return jnp.where(begun_PS[None, ..., None], log_p_BPSV, -jnp.log(float(self.symbols)))

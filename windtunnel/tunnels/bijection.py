"""`bijection` (accumulate): a secret permutation, shown pair by pair. After paper I of the wind-tunnel trilogy."""

import itertools
import math
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from pydantic import Field

from windtunnel.spec import spec
from windtunnel.tunnels.base import Batch, Tables, Tunnel, uniform_log_predictive, windows

ENUMERABLE = 9  # 9! = 362,880 hypotheses is the most that `log_posterior` writes out


@spec
class Bijection(Tunnel):
    """π is uniform over the V! bijections; a sequence is x₁ π(x₁) x₂ π(x₂) …, keys without replacement.

    Predict the value at each key. After k−1 pairs every bijection that agrees with them is equally likely, so

        p(π(x_k) = v | past) = 1 / (V − k + 1) for each value not yet used, 0 for the others;  H = log₂(V − k + 1).

    Keys are tokens 0 … V−1 and values tokens V … 2V−1. With V = 3, the sequence `2 4 0 3` says π(2) = 1 and
    π(0) = 0; predicting π(0) at the token `0` leaves values {0, 2}: one bit.
    """

    name: Literal["bijection"] = "bijection"
    symbols: Annotated[int, Field(ge=2, le=1000)] = 20

    hypothesis = "bijection"

    @property
    def outcomes(self) -> int:
        return self.symbols

    @property
    def vocabulary(self) -> int:
        return 2 * self.symbols

    @property
    def capacity(self) -> int:
        return self.symbols

    @property
    def hypotheses(self) -> int:
        return math.factorial(self.symbols)

    def tokens(self, observations: int) -> int:
        return 2 * observations - 1  # the last value is never an input

    def scored(self, observations: int) -> np.ndarray:
        return 2 * np.arange(observations)

    def sample(self, key: Array, tables: Tables, batch: int, observations: int) -> Batch:
        def pairs(key: Array) -> tuple[Array, Array]:
            key_keys, key_values = jax.random.split(key)
            keys, values = (jax.random.permutation(k, self.symbols)[:observations] for k in (key_keys, key_values))
            return keys, values

        key_BP, value_BP = jax.vmap(pairs)(jax.random.split(key, batch))
        inputs = jnp.stack([key_BP, value_BP + self.symbols], axis=2).reshape(batch, -1)[:, :-1]
        return Batch(inputs, value_BP, jnp.ones(value_BP.shape))

    def _unused(self, batch: Batch, at: Array, window: int) -> Array:
        """bool[B, P, V]: which values do not occur among the last `window` pairs before each position."""
        value_BK = batch.inputs[:, 1::2] - self.symbols
        back_PK = at[:, None] - jnp.arange(value_BK.shape[1])[None]
        seen_PK = (back_PK > 0) & (back_PK <= window)
        used_BPV = jnp.einsum("pk,bkv->bpv", seen_PK.astype(float), jax.nn.one_hot(value_BK, self.symbols))
        return used_BPV == 0

    def log_predictive(self, tables: Tables, batch: Batch, at: Array) -> Array:
        return _log_uniform(self._unused(batch, at, self.symbols))

    def log_posterior(self, tables: Tables, batch: Batch, at: Array) -> Array:
        """[B, P, V!]: uniform over the bijections, in lexicographic order, that agree with every pair seen."""
        if self.symbols > ENUMERABLE:
            raise ValueError(f"{self.symbols}! bijections are too many to write out; use symbols ≤ {ENUMERABLE}")
        bijection_HV = jnp.asarray(list(itertools.permutations(range(self.symbols))))
        key_BK, value_BK = batch.inputs[:, 0:-1:2], batch.inputs[:, 1::2] - self.symbols
        agrees_BKH = jnp.moveaxis(bijection_HV[:, key_BK], 0, -1) == value_BK[:, :, None]
        seen_PK = jnp.arange(key_BK.shape[1])[None] < at[:, None]
        return _log_uniform(jnp.all(agrees_BKH[:, None] | ~seen_PK[None, :, :, None], axis=2))

    def baselines(self, tables: Tables, batch: Batch, at: Array, horizon: int) -> dict[str, Array]:
        """`last-w`: without replacement the key is new whatever it was, so any value outside the window may come."""
        seen = {name: _log_uniform(self._unused(batch, at, w)) for name, w in windows(horizon).items()}
        return {"prior": uniform_log_predictive(batch.inputs.shape[0], at, self.symbols), **seen}


def _log_uniform(allowed: Array) -> Array:
    """Log-probabilities of the uniform distribution over the allowed entries of the last axis."""
    count = jnp.sum(allowed, axis=-1, keepdims=True)
    return jnp.where(allowed, -jnp.log(count.astype(float)), -jnp.inf)

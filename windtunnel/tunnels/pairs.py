"""What tunnels of pairs share: a hidden bijection of V symbols, shown as key, value, key, value, …"""

import itertools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel.tunnels.answers import Frame
from windtunnel.tunnels.base import Batch
from windtunnel.tunnels.finite import Finite, FiniteTables


class Pairs(Finite):
    """Keys are tokens 0 … V−1, values tokens V … 2V−1. A value is predicted at its key; the last value is not an
    input.
    """

    enumerable: ClassVar[int]  # the most symbols for which `support` lists all V! bijections

    independent = True
    size = "symbols"
    count = staticmethod(math.factorial)

    @property
    def symbols(self) -> int:
        """V"""
        raise NotImplementedError

    @property
    def outcomes(self) -> int:
        return self.symbols

    @property
    def vocabulary(self) -> int:
        return 2 * self.symbols

    @property
    def outcome_tokens(self) -> np.ndarray:
        return self.symbols + np.arange(self.symbols)

    def tokens(self, observations: int) -> int:
        return 2 * observations - 1

    def scored(self, observations: int) -> np.ndarray:
        return 2 * np.arange(observations)

    def _log_prior(self) -> Array:
        """[V, V]: log-prior of each pair (key, value), up to a constant for each key."""
        return jnp.zeros((self.symbols, self.symbols))

    def support(self) -> tuple[Array, Array]:
        """All V! bijections, in lexicographic order, and their log-prior: a sum over pairs."""
        if self.symbols > self.enumerable:
            raise ValueError(
                f"{self.symbols}! {self.hypothesis}s are too many to write out; use symbols ≤ {self.enumerable}"
            )
        bijection_HV = np.array(list(itertools.permutations(range(self.symbols))))
        log_prior_HV = self._log_prior()[np.arange(self.symbols)[None], bijection_HV]
        return jnp.asarray(bijection_HV), jax.nn.log_softmax(jnp.sum(log_prior_HV, axis=-1))

    def split(self, batch: Batch) -> tuple[Array, Array]:
        """Keys [B, P], and the values [B, P−1] that are inputs, both as numbers from 0."""
        return batch.inputs[:, 0::2], batch.inputs[:, 1::2] - self.symbols

    def frame(self, tables: FiniteTables, batch: Batch) -> Frame:
        """Hypotheses assign values to keys, so every key is labelled with its symbol."""
        inputs = batch.inputs
        is_key_BT = (jnp.arange(inputs.shape[1]) % 2 == 0)[None] & (inputs < self.symbols)
        return Frame("keys", jnp.where(is_key_BT, inputs, -1), self.symbols)

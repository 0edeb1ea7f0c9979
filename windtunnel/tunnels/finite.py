"""Tunnels with one hypothesis per sequence, and the pool that it can be drawn from.

The hypothesis is drawn from the tunnel's prior, or from a fixed pool of M hypotheses that were drawn from the prior
once. With a pool there are two exact reasoners: one knows the pool, which generated the data, the other only the prior.
A model that memorises follows the first, a model that generalises the second. After Raventós et al. 2023.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from windtunnel.spec import Seed, Size, spec
from windtunnel.tunnels.base import Batch, Tunnel


class FiniteTables(NamedTuple):
    """`own` is the result of `tabulate`; `pool` the M hypotheses of the pool, or None."""

    own: Any
    pool: Any


@spec
class Finite(Tunnel):
    """A tunnel defined by how a hypothesis is drawn, what it emits, and the probability it gives to each outcome."""

    pool: Size | None = None  # pyrefly: ignore[bad-override]
    pool_seed: Seed = 0

    def tabulate(self, observations: int) -> Any:
        """The tunnel's own tables, computed once per study, for sequences of at most `observations`; None if none."""
        return None

    def draw(self, key: Array, own: Any, count: int) -> Any:
        """`count` hypotheses from the prior: a pytree with leading axis `count`."""
        raise NotImplementedError

    def emit(self, key: Array, hypothesis: Any, own: Any, observations: int) -> Batch:
        """One sequence (no batch axis) under one hypothesis."""
        raise NotImplementedError

    def log_channel(self, hypotheses: Any, batch: Batch, at: Array) -> Array:
        """[B, P, H, V]: log-probability (nats) of each outcome at `at` under each hypothesis."""
        raise NotImplementedError

    def log_seen(self, hypotheses: Any, batch: Batch) -> Array:
        """[B, T, H]: log-probability of each outcome that was drawn, under each hypothesis."""
        every = jnp.arange(batch.outcome_BP.shape[1])
        drawn_BTV = jax.nn.one_hot(batch.outcome_BP, self.outcomes, dtype=bool)
        return jnp.sum(jnp.where(drawn_BTV[:, :, None], self.log_channel(hypotheses, batch, every), 0.0), axis=-1)

    def support(self) -> tuple[Any, Array]:
        """All H hypotheses and their log-prior [H], if they can be enumerated."""
        raise NotImplementedError

    def log_exact(self, own: Any, batch: Batch, at: Array) -> Array:
        """[B, P, V]: the exact predictive of the reasoner that knows the prior."""
        raise NotImplementedError

    def prepare(self, observations: int) -> FiniteTables:
        own = self.tabulate(observations)
        if self.pool is None:
            return FiniteTables(own, None)
        return FiniteTables(own, self.draw(jax.random.key(self.pool_seed), own, self.pool))

    def sample(self, key: Array, tables: FiniteTables, batch: int, observations: int) -> Batch:
        key_draw, key_emit = jax.random.split(key)
        if self.pool is None:
            drawn = self.draw(key_draw, tables.own, batch)
        else:
            member_B = jax.random.randint(key_draw, (batch,), 0, self.pool)
            drawn = jax.tree.map(lambda leaf: leaf[member_B], tables.pool)
        keys = jax.random.split(key_emit, batch)
        return jax.vmap(lambda key, hypothesis: self.emit(key, hypothesis, tables.own, observations))(keys, drawn)

    def log_posterior(self, tables: FiniteTables, batch: Batch, at: Array) -> Array:
        """[B, P, H]: over the pool, or over all hypotheses if they can be enumerated."""
        hypotheses, log_prior_H = self._candidates(tables)
        return log_posterior_over(hypotheses, log_prior_H, self, batch, at)

    def log_predictive(self, tables: FiniteTables, batch: Batch, at: Array) -> Array:
        if self.pool is None:
            return self.log_exact(tables.own, batch, at)
        return self.log_mixture(tables, batch, at)

    def log_full_predictive(self, tables: FiniteTables, batch: Batch, at: Array) -> Array:
        return self.log_exact(tables.own, batch, at)

    def log_mixture(self, tables: FiniteTables, batch: Batch, at: Array) -> Array:
        """[B, P, V]: log Σ_h P(h | seen) p(v | h), over the same hypotheses as `log_posterior`."""
        hypotheses, log_prior_H = self._candidates(tables)
        log_posterior_BPH = log_posterior_over(hypotheses, log_prior_H, self, batch, at)
        log_channel_BPHV = self.log_channel(hypotheses, batch, at)
        return jax.nn.logsumexp(log_posterior_BPH[..., None] + log_channel_BPHV, axis=2)

    def _candidates(self, tables: FiniteTables) -> tuple[Any, Array]:
        if self.pool is None:
            return self.support()
        return tables.pool, jnp.full(self.pool, -jnp.log(float(self.pool)))


def log_posterior_over(hypotheses: Any, log_prior_H: Array, tunnel: Finite, batch: Batch, at: Array) -> Array:
    """[B, P, H]: log P(h | the outcomes before `at`) ∝ log P(h) + Σ_{s<at} log p(o_s | h)."""
    log_seen_BTH = tunnel.log_seen(hypotheses, batch)
    log_seen_BTH = jnp.where(batch.weight_BP[:, :, None] > 0, log_seen_BTH, 0.0)
    before_BTH = jnp.cumsum(jnp.pad(log_seen_BTH, ((0, 0), (1, 0), (0, 0)))[:, :-1], axis=1)
    return jax.nn.log_softmax(log_prior_H[None, None] + before_BTH[:, at], axis=-1)

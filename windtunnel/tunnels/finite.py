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
        """`count` hypotheses from the prior: a pytree with leading axis `count`.

        The same ones in float32 and in float64 (JAX draws other numbers for other types), since a pool is part of the
        problem: `verify` asks the oracle about one pool in both.
        """
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

    @property
    def ignored(self) -> tuple[str, ...]:
        """Without a pool its seed is the seed of nothing."""
        return ("pool_seed",) if self.pool is None else ()

    def baselines(self, tables: FiniteTables, batch: Batch, at: Array, horizon: int) -> dict[str, Array]:
        """Where the data come from a pool, baselines know it: else headroom would measure ignorance of the pool."""
        if self.pool is None:
            return super().baselines(tables, batch, at, horizon)
        hypotheses, log_prior_H = self._candidates(tables)
        log_seen_BTH = centred(self.log_seen(hypotheses, batch), batch)
        possible_BTH = log_seen_BTH > -jnp.inf
        total_BTH = running(jnp.where(possible_BTH, log_seen_BTH, 0.0))
        excluded_BTH = running((~possible_BTH).astype(jnp.int32))
        log_channel_BPHV = self.log_channel(hypotheses, batch, at)

        def last(window: int) -> Array:
            start_P = jnp.maximum(at - window, 0)
            log_window_BPH = total_BTH[:, at] - total_BTH[:, start_P] + self.log_entering(hypotheses, batch, start_P)
            log_window_BPH = jnp.where(excluded_BTH[:, at] > excluded_BTH[:, start_P], -jnp.inf, log_window_BPH)
            log_posterior_BPH = jax.nn.log_softmax(log_prior_H[None, None] + log_window_BPH, axis=-1)
            return jax.nn.logsumexp(log_posterior_BPH[..., None] + log_channel_BPHV, axis=2)

        return {"prior": last(0), **{name: last(w) for name, w in self.windows(horizon).items()}}

    def log_entering(self, hypotheses: Any, batch: Batch, start: Array) -> Array:
        """[B or 1, P, H]: what the inputs at which a window starts say of each hypothesis by themselves, whatever came
        before: nothing where keys and inputs do not depend on it.
        """
        return jnp.zeros((1, 1, 1))

    def _candidates(self, tables: FiniteTables) -> tuple[Any, Array]:
        if self.pool is None:
            return self.support()
        return tables.pool, jnp.full(self.pool, -jnp.log(float(self.pool)))


def log_posterior_over(hypotheses: Any, log_prior_H: Array, tunnel: Finite, batch: Batch, at: Array) -> Array:
    """[B, P, H]: log P(h | the outcomes before `at`) ∝ log P(h) + Σ_{s<at} log p(o_s | h)."""
    log_seen_BTH = tunnel.log_seen(hypotheses, batch)
    log_seen_BTH = jnp.where(batch.weight_BP[:, :, None] > 0, log_seen_BTH, 0.0)
    return jax.nn.log_softmax(log_prior_H[None, None] + running(log_seen_BTH)[:, at], axis=-1)


def running(x_BTH: Array) -> Array:
    """[B, T, H]: the sum of what came before each observation."""
    return jnp.cumsum(jnp.pad(x_BTH, ((0, 0), (1, 0), (0, 0)))[:, :-1], axis=1)


def centred(log_seen_BTH: Array, batch: Batch) -> Array:
    """Log-likelihoods less the largest of each observation, which no posterior sees, so that long sums stay small; 0
    where an observation does not count.
    """
    top_BT1 = jnp.max(log_seen_BTH, axis=-1, keepdims=True)
    log_seen_BTH = log_seen_BTH - jnp.where(top_BT1 > -jnp.inf, top_BT1, 0.0)
    return jnp.where(batch.weight_BP[:, :, None] > 0, log_seen_BTH, 0.0)

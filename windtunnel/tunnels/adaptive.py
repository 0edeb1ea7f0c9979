"""`recall_adaptive` (bind, and learn the prior): `recall`, where each sequence has a lag prior of its own.

In the shapes of this file, G is the priors of the grid.
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp
from jaxtyping import Array
from pydantic import Field

from windtunnel.priors import Grid
from windtunnel.spec import Noise, spec
from windtunnel.tunnels.base import Batch, uniform, uniform_log_predictive
from windtunnel.tunnels.recall import Recall, by_blocks, truncated


@spec
class RecallAdaptive(Recall):
    """As `recall`, but the lag prior π_g is drawn for each sequence, uniformly from a grid of scales and βs, and the
    cues so far tell which it is. With π_g normalised over the pairs that exist,

        Z_g(s) = Σ_{j≤s} π_g(s − j) P(cue_s | k_j),      P(g | cues ≤ t) ∝ P(g) Π_{s≤t} Z_g(s),
        p(v) = Σ_g P(g | cues ≤ t) p_g(v),

    p_g the predictive of `recall` with the prior π_g. Which values were meant is never shown, so the evidence for g is
    in the cues alone: it is the log-normaliser of attention with the prior π_g. Exact at the cost O(G T²).

    Example: b = 1, ε = 0, keys + then −, a prior that is certain of lag 0 and one that gives both lags ½. The cue + at
    t = 1 has Z = 0 and ½: the first prior is ruled out.
    """

    name: Literal["recall_adaptive"] = "recall_adaptive"  # pyrefly: ignore[bad-override]
    bits: Annotated[int, Field(ge=1, le=24)] = 6
    noise: Noise = 0.2
    prior: Grid = Grid()  # pyrefly: ignore[bad-override]

    @property
    def lag_prior(self) -> None:  # pyrefly: ignore[bad-override]
        """None: there are several."""
        return None

    @property
    def domain_count(self) -> int:
        """G"""
        return len(self.prior.scales) * len(self.prior.betas)

    def _log_lag(self, length: int) -> Array:
        """[G, T]: the log-prior of each lag, not normalised."""
        lag_T = jnp.arange(length, dtype=jnp.result_type(float))
        return jnp.stack([prior.log_density(lag_T) for prior in self.prior.members])

    def _source(self, key: Array, level_BT: Array) -> Array:
        batch, length = level_BT.shape
        time_T, log_lag_GT = jnp.arange(length), self._log_lag(length)
        drawn_B = (uniform(jax.random.fold_in(key, 1), (batch,)) * self.domain_count).astype(jnp.int32)
        lag_GBT = jnp.stack([truncated(log_lag_GT[g], level_BT, time_T) for g in range(self.domain_count)])
        return time_T[None] - lag_GBT[drawn_B, jnp.arange(batch)]

    def _log_joint(self, batch: Batch, at: Array) -> Array:
        """[B, P, G, T]: log π_g(t − j) P(cue_t | k_j); −inf for later pairs."""
        length = batch.inputs.shape[1]
        log_lag_GT = self._log_lag(length)
        lag_PT = at[:, None] - jnp.arange(length)[None]
        log_prior_GPT = log_lag_GT[:, jnp.maximum(lag_PT, 0)] - lax.cumlogsumexp(log_lag_GT, axis=1)[:, at, None]
        log_prior_GPT = jnp.where((lag_PT >= 0)[None], log_prior_GPT, -jnp.inf)
        return self._log_content(batch, at)[:, :, None] + jnp.moveaxis(log_prior_GPT, 0, 1)[None]

    def _log_evidence(self, batch: Batch) -> Array:
        """[B, T + 1, G]: Σ_{s<t} log Z_g(s), up to what is the same for all g."""
        every, terms = jnp.arange(batch.inputs.shape[1]), batch.inputs.shape[1] * self.domain_count
        log_Z_BTG = by_blocks(lambda at: logsumexp(self._log_joint(batch, at), axis=-1), batch, every, terms)
        # Only differences matter: without what is common the sum stays small, and float32 exact enough.
        return jnp.pad(jnp.cumsum(jax.nn.log_softmax(log_Z_BTG, axis=-1), axis=1), ((0, 0), (1, 0), (0, 0)))

    def _log_weights(self, log_evidence_BTG: Array, at: Array, window: int) -> Array:
        """[B, P, G]: log P(g | the last `window` cues)."""
        seen_BPG = log_evidence_BTG[:, at + 1] - log_evidence_BTG[:, jnp.maximum(at + 1 - window, 0)]
        return jax.nn.log_softmax(seen_BPG, axis=-1)

    def _log_pairs(self, log_weight_BPG: Array, batch: Batch, at: Array) -> Array:
        """[B, P, T]: log P(j | cue_t), over priors with these weights."""
        log_pair_BPGT = jax.nn.log_softmax(self._log_joint(batch, at), axis=-1)
        return logsumexp(log_weight_BPG[..., None] + log_pair_BPGT, axis=2)

    def log_posterior(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        return self._log_pairs(self.log_domains(tables, batch, at), batch, at)

    def log_domains(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        """[B, P, G]: log P(g | cues ≤ t). The priors are the domains of these prompts."""
        return self._log_weights(self._log_evidence(batch), at, batch.inputs.shape[1])

    def _answer(self, log_weight_BPG: Array, batch: Batch, at: Array) -> Array:
        """[B, P, V]: the predictive of whoever gives the priors these weights."""

        def answer(index: Array) -> Array:
            return self._predict(self._log_pairs(log_weight_BPG[:, index], batch, at[index]), batch)

        return by_blocks(answer, batch, jnp.arange(len(at)), terms=batch.inputs.shape[1] * self.domain_count)

    def log_predictive(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        return self._answer(self.log_domains(tables, batch, at), batch, at)

    def windows(self, horizon: int) -> dict[str, int]:
        """`cues-w` learns g from the last w cues. What the last w *pairs* alone say has no closed form: an unseen key
        may be the source of several cues, which it couples.
        """
        return {name.replace("last", "cues"): window for name, window in super().windows(horizon).items()}

    def baselines(self, tables: tuple[()], batch: Batch, at: Array, horizon: int) -> dict[str, Array]:
        """Beside `cues-w`: `static`, which never learns g, Σ_g P(g) p_g(v); and `oracle`, which knows more than the
        exact reasoner: g from all cues of the sequence, those to come included.
        """
        log_evidence_BTG, length = self._log_evidence(batch), batch.inputs.shape[1]
        weights = {name: self._log_weights(log_evidence_BTG, at, w) for name, w in self.windows(horizon).items()}
        weights["static"] = self._log_weights(log_evidence_BTG, at, 0)
        weights["oracle"] = self._log_weights(log_evidence_BTG, jnp.full_like(at, length - 1), length)
        prior = {"prior": uniform_log_predictive(len(batch.inputs), at, self.symbols)}
        return prior | {name: self._answer(log_weight, batch, at) for name, log_weight in weights.items()}

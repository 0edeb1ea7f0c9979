"""`recall` (bind): look a value up by a noisy cue, with a prior over how far back the pair lies.

In the shapes of this file, b is the bits of a key, and W the pairs of a window.
"""

import itertools
import string
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import logsumexp, xlog1py, xlogy
from jaxtyping import Array
from pydantic import Field

from windtunnel.priors import GeneralizedGaussian, Prior
from windtunnel.spec import Noise, spec
from windtunnel.tunnels.answers import Frame
from windtunnel.tunnels.base import Batch, Tunnel, uniform, uniform_log_predictive

BLOCK = 2**21  # the number of (position, pair) combinations that are weighed at once


@spec
class Recall(Tunnel):
    """Observation t stores a pair (key k_t ∈ {±1}^b, value v_t) and shows a cue: the key of a stored pair j ≤ t, each
    bit flipped with probability ε, where the lag t − j is drawn from the prior, restricted to the pairs that exist.
    Predict v_j. With m_j the number of bits in which cue and key agree,

        P(j | cue) ∝ prior(t − j) (1−ε)^m_j ε^(b−m_j),      p(v) = Σ_j P(j | cue) 1[v_j = v].

    One attention head can be exactly this: a content score m_j log((1−ε)/ε) plus the log-prior of the distance.
    One observation is one token of 2b + V features: the key's bits, the value one-hot, the cue's bits. Keys may
    collide; the posterior counts every pair that has the key.

    The hypotheses are the 2^b cues; only the t stored pairs are possible at observation t, and `log_posterior` is over
    them. With b = 2, ε = 0 and keys ++ then +−, the cue ++ at t = 2 leaves j = 1: the value of the first pair.
    """

    name: Literal["recall"] = "recall"
    bits: Annotated[int, Field(ge=1, le=24)] = 12
    symbols: Annotated[int, Field(ge=2, le=1000)] = 8
    noise: Noise = 0.1
    prior: Prior = GeneralizedGaussian()

    hypothesis = "cue"
    size = "bits"
    count = staticmethod(lambda bits: 2**bits)

    @property
    def outcomes(self) -> int:
        return self.symbols

    @property
    def features(self) -> int:
        return 2 * self.bits + self.symbols

    @property
    def lag_prior(self) -> Prior:
        return self.prior

    def sample(self, key: Array, tables: tuple[()], batch: int, observations: int) -> Batch:
        drawn = uniform(key, (batch, observations, 2 * self.bits + 2))
        value_BT = (drawn[..., 0] * self.symbols).astype(jnp.int32)
        level_BT = drawn[..., 1]
        bit_BTb = jnp.where(drawn[..., 2 : 2 + self.bits] < 0.5, -1.0, 1.0)
        flip_BTb = jnp.where(drawn[..., 2 + self.bits :] < self.noise, -1.0, 1.0)
        source_BT = self._source(key, level_BT)
        cue_BTb = jnp.take_along_axis(bit_BTb, source_BT[:, :, None], axis=1) * flip_BTb
        one_hot_BTV = jax.nn.one_hot(value_BT, self.symbols)
        inputs = jnp.concatenate([bit_BTb, one_hot_BTV, cue_BTb], axis=2)
        outcome_BT = jnp.take_along_axis(value_BT, source_BT, axis=1)
        return Batch(inputs, outcome_BT, jnp.ones(outcome_BT.shape))

    def _source(self, key: Array, level_BT: Array) -> Array:
        """int[B, T]: the pair that each question asks for, from levels uniform in [0, 1)."""
        time_T = jnp.arange(level_BT.shape[1])
        return time_T[None] - truncated(self.prior.log_density(time_T.astype(level_BT.dtype)), level_BT, time_T)

    def words(self, inputs: np.ndarray) -> list[str]:
        """`C 9`: the pair stores the third value, and 9 bits of its key agree with the last cue."""
        key_Tb, value_TV, cue_b = inputs[:, : self.bits], inputs[:, self.bits : -self.bits], inputs[-1, -self.bits :]
        agree_T = (key_Tb == cue_b).sum(axis=1)
        names = string.ascii_uppercase if self.symbols <= 26 else [f"v{value}" for value in range(self.symbols)]
        return [f"{names[value]} {agree}" for value, agree in zip(value_TV.argmax(axis=1), agree_T, strict=True)]

    def _split(self, batch: Batch) -> tuple[Array, Array, Array]:
        """Keys [B, T, b], one-hot values [B, T, V] and cues [B, T, b] of the inputs."""
        b, v = self.bits, self.symbols
        return batch.inputs[..., :b], batch.inputs[..., b : b + v], batch.inputs[..., b + v :]

    def _log_likelihood(self, match: Array, cue: Array) -> Array:
        """log of (1−ε)^m ε^(b−m), the probability of a `cue` [B, P, b] given a pair with whose key m bits agree.
        `match` is the inner product of cue and key, 2m − b.
        """
        return log_agreement(match, self.bits, self.noise)

    def _log_content(self, batch: Batch, at: Array) -> Array:
        """[B, P, T]: log-likelihood of each pair, for the cue at `at`."""
        key_BTb, _, cue_BTb = self._split(batch)
        return self._log_likelihood(jnp.einsum("bpi,bti->bpt", cue_BTb[:, at], key_BTb), cue_BTb[:, at])

    def _log_prior(self, batch: Batch, at: Array) -> Array:
        """[P, T]: log-prior, not normalised, of each pair at the positions `at`; −inf for later pairs."""
        lag_PT = at[:, None] - jnp.arange(batch.inputs.shape[1])[None]
        return jnp.where(lag_PT >= 0, self._log_prior_of_lags(batch)[jnp.maximum(lag_PT, 0)], -jnp.inf)

    def _log_prior_of_lags(self, batch: Batch) -> Array:
        """[T]: log-prior, not normalised, of each lag."""
        return self.prior.log_density(jnp.arange(batch.inputs.shape[1], dtype=jnp.result_type(float)))

    def log_posterior(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        """[B, P, T]: over the stored pairs, the only possible hypotheses; −inf for later pairs."""
        return jax.nn.log_softmax(self._log_content(batch, at) + self._log_prior(batch, at)[None], axis=-1)

    def token_weights(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        """The posterior itself, since every token is a pair."""
        return self.log_posterior(tables, batch, at)

    def frame(self, tables: tuple[()], batch: Batch) -> Frame:
        key_BTb, _, _ = self._split(batch)
        pairs = key_BTb.shape[1]
        return Frame("stored pairs", jnp.broadcast_to(jnp.arange(pairs), key_BTb.shape[:2]), pairs, True, key_BTb)

    def exchanged(self, batch: Batch, order: Array) -> Batch:
        key_BTb, _, _ = self._split(batch)
        return batch._replace(inputs=batch.inputs.at[..., : self.bits].set(key_BTb[:, order]))

    def log_predictive(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        return by_blocks(lambda at: self._predict(self.log_posterior(tables, batch, at), batch), batch, at)

    def log_mixture(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        _, value_BTV, _ = self._split(batch)
        log_value_B1TV = jnp.where(value_BTV > 0, 0.0, -jnp.inf)[:, None]  # a pair determines its value
        return logsumexp(self.log_posterior(tables, batch, at)[..., None] + log_value_B1TV, axis=2)

    def aleatoric(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        """A pair determines its value."""
        return jnp.zeros((len(batch.inputs), len(at)))

    def log_last(self, tables: tuple[()], batch: Batch, at: Array, window: int) -> Array:
        return self._log_last_of_each(batch, at, [window])[0]

    def _log_last_of_each(self, batch: Batch, at: Array, windows: list[int]) -> list[Array]:
        """[B, P, V] for each of the windows, which ascend: a reasoner that sees the cue and the last pairs. Given a
        pair that it does not see, the cue is uniform over 2^b and the value uniform over V.

        What the pairs of a window say is what those of the one before say, and those between: all are weighed once.
        """
        log_prior_T = self._log_prior_of_lags(batch)
        lag_T = jnp.arange(len(log_prior_T))
        unseen_nT = lag_T[None] >= jnp.asarray(windows)[:, None]
        log_beyond_nT = lax.cumlogsumexp(jnp.where(unseen_nT, log_prior_T[None], -jnp.inf), axis=1)
        log_unseen_nP = log_beyond_nT[:, at] - self.bits * jnp.log(2.0)
        uniform_BPV = uniform_log_predictive(batch.inputs.shape[0], at, self.symbols)
        log_unseen_nBPV = log_unseen_nP[:, None, :, None] + uniform_BPV[None]

        def seen(at: Array) -> Array:
            """[B, P, n, V]"""
            key_BTb, value_BTV, cue_BTb = self._split(batch)
            lag_W = lag_T[: windows[-1]]
            pair_PW = at[:, None] - lag_W[None]
            exists_PW, pair_PW = pair_PW >= 0, jnp.maximum(pair_PW, 0)
            match_BPW = jnp.einsum("bpi,bpwi->bpw", cue_BTb[:, at], key_BTb[:, pair_PW])
            log_joint_BPW = self._log_likelihood(match_BPW, cue_BTb[:, at])
            log_joint_BPW += jnp.where(exists_PW, log_prior_T[lag_W][None], -jnp.inf)[None]
            is_value_BPVW = jnp.moveaxis(value_BTV[:, pair_PW], 3, 2) > 0
            log_joint_BPVW = jnp.where(is_value_BPVW, log_joint_BPW[:, :, None], -jnp.inf)
            ends = itertools.pairwise([0, *windows])
            between_nBPV = jnp.stack([logsumexp(log_joint_BPVW[..., first:last], axis=-1) for first, last in ends])
            return jnp.moveaxis(lax.cumlogsumexp(between_nBPV, axis=0), 0, 2)

        log_joint_nBPV = jnp.logaddexp(jnp.moveaxis(by_blocks(seen, batch, at), 2, 0), log_unseen_nBPV)
        return list(jax.nn.log_softmax(log_joint_nBPV, axis=-1))

    def baselines(self, tables: tuple[()], batch: Batch, at: Array, horizon: int) -> dict[str, Array]:
        """`content-only` does not know the order of the pairs, `position-only` does not know the cue."""

        seen = {"prior": 0, **self.windows(horizon)}

        def content(at: Array) -> Array:
            stored_PT = jnp.arange(batch.inputs.shape[1])[None] <= at[:, None]
            content_BPT = jnp.where(stored_PT[None], self._log_content(batch, at), -jnp.inf)
            return self._predict(jax.nn.log_softmax(content_BPT, axis=-1), batch)

        def position(at: Array) -> Array:
            position_PT = jax.nn.log_softmax(self._log_prior(batch, at), axis=-1)
            return self._predict(jnp.broadcast_to(position_PT[None], (len(batch.inputs), *position_PT.shape)), batch)

        return {
            **dict(zip(seen, self._log_last_of_each(batch, at, list(seen.values())), strict=True)),
            "content-only": by_blocks(content, batch, at),
            "position-only": by_blocks(position, batch, at),
        }

    def _weigh(self, batch: Batch, at: Array, log_content: Callable[[Array], Array], kinds: int = 1) -> Array:
        """[B, P, V]: the predictive whose weights over pairs are the prior times exp `log_content(at)` [B, P, T], which
        computes so many `kinds` of numbers for each pair.
        """

        def answer(at: Array) -> Array:
            log_weight_BPT = log_content(at) + self._log_prior(batch, at)[None]
            return self._predict(jax.nn.log_softmax(log_weight_BPT, axis=-1), batch)

        return by_blocks(answer, batch, at, kinds * batch.inputs.shape[1])

    def _predict(self, log_weight_BPT: Array, batch: Batch) -> Array:
        """[B, P, V]: log Σ_j exp(log_weight_j) 1[v_j = v], from log-weights over the pairs."""
        _, value_BTV, _ = self._split(batch)
        # Each value is shifted by its own largest weight, so that none underflows with one exponential per pair.
        is_value_BVT = jnp.moveaxis(value_BTV, 1, 2) > 0
        top_BPV = jnp.max(jnp.where(is_value_BVT[:, None], log_weight_BPT[:, :, None], -jnp.inf), axis=-1)
        shift_BPV = jnp.where(jnp.isfinite(top_BPV), top_BPV, 0.0)
        shift_BPT = jnp.take_along_axis(shift_BPV, jnp.argmax(value_BTV, axis=-1)[:, None, :], axis=2)
        weight_BPT = jnp.exp(log_weight_BPT - shift_BPT)
        total_BPV = jnp.einsum("bpt,btv->bpv", weight_BPT, value_BTV, precision=jax.lax.Precision.HIGHEST)
        present_BPV = total_BPV > 0  # the gradient of a logarithm of zero would be no number
        return jnp.where(present_BPV, jnp.log(jnp.where(present_BPV, total_BPV, 1.0)), -jnp.inf) + shift_BPV


def truncated(log_density_T: Array, level_BT: Array, last_T: Array) -> Array:
    """int[B, T]: draws from a density over 0 … T−1, cut off after `last_T` and normalised, by the inverse of its
    cumulative sum at levels uniform in [0, 1).
    """
    cumulative_T = jnp.cumsum(jnp.exp(log_density_T - jnp.max(log_density_T)))
    drawn_BT = jnp.searchsorted(cumulative_T, level_BT * cumulative_T[last_T][None], side="right")
    return jnp.minimum(drawn_BT, last_T[None])


def log_agreement(match: Array, bits: int, noise: Array | float) -> Array:
    """log of (1−ε)^m ε^(b−m): the probability of a noisy key, given the key that it is a copy of. `match` is the inner
    product of the two, 2m − b.
    """
    match = (bits + match) / 2
    return xlog1py(match, -noise) + xlogy(bits - match, noise)


def by_blocks(answer: Callable[[Array], Any], batch: Batch, at: Array, terms: int | None = None) -> Any:
    """`answer(at)` [B, P, …], for a few positions at a time, so that memory is linear in the number of pairs. `terms`:
    what a position weighs, where that is not every pair.
    """
    size = max(1, BLOCK // (batch.inputs.shape[0] * (terms or batch.inputs.shape[1])))
    if len(at) <= size:
        return answer(at)
    out = lax.map(answer, jnp.pad(at, (0, -len(at) % size), mode="edge").reshape(-1, size))
    out = jnp.moveaxis(out, 0, 1)
    return out.reshape(out.shape[0], -1, *out.shape[3:])[:, : len(at)]

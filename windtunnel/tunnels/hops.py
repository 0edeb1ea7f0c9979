"""`hops` (bind, again and again): look a pair up by a noisy cue, then follow its pointer, and the pointer of that.

In the shapes of this file, b is the bits of a key, W the pairs of a window, N what matrices lie side by side for, and
I × J a matrix of log-probabilities.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import logsumexp
from jaxtyping import Array
from pydantic import Field

from windtunnel.priors import GeneralizedGaussian, Prior
from windtunnel.spec import Noise, spec
from windtunnel.tunnels.answers import Frame
from windtunnel.tunnels.base import Batch, Tunnel, uniform, uniform_log_predictive
from windtunnel.tunnels.recall import by_blocks, log_agreement, truncated


class Seen(NamedTuple):
    """What the inputs show."""

    key: Array  # [B, T, b]
    log_value: Array  # [B, T, V]: 0 at the value of a pair, else −∞
    pointer: Array  # [B, T, b]
    cue: Array  # [B, T, b]
    asked: Array  # int32[B, T]: p


@spec
class Hops(Tunnel):
    """Observation t stores a pair: a key k_t ∈ {±1}^b, a value v_t, and a pointer r_t, the key of a *strictly earlier*
    pair with each bit flipped with probability ε. The first pair points nowhere (zeros) and keeps whoever comes there.
    It also asks: a cue (the noisy key of a stored pair j ≤ t), and a number p, uniform over 0 … `hops`. Predict the
    value of the pair to which p pointers lead from j. Lags come from the prior, restricted to the pairs that may be
    meant. With m the number of bits in which two keys agree and L(m) = (1−ε)^m ε^(b−m),

        a_t(j) ∝ prior(t−j) L(cue_t, k_j) for j ≤ t,     M_ij ∝ prior(i−j) L(r_i, k_j) for j < i,     M_00 = 1,
        P(where p pointers lead | seen) = a_t Mᵖ,         p(v) = Σ_j (a_t Mᵖ)_j 1[v_j = v].

    The product is exact because pointers lead strictly back: given the keys they are independent, and no pair but the
    first is met twice. (A pointer that may mean its own pair would be drawn once, and Mᵖ would draw it p times.)

    One observation is one token of 3b + V + 1 features: key, value one-hot, pointer, cue, and p as a number, which goes
    on past what training saw; `evaluate.hops` asks there. With ε = 0 and the keys ++, +−, −−, the third pair holding
    +−, the cue −− asks at p = 0 for the third value, at p = 1 for the second, from p = 2 on for the first.
    """

    name: Literal["hops"] = "hops"
    bits: Annotated[int, Field(ge=1, le=24)] = 8
    symbols: Annotated[int, Field(ge=2, le=1000)] = 8
    hops: Annotated[int, Field(ge=0, le=64)] = 4
    noise: Noise = 0.05
    prior: Prior = GeneralizedGaussian(scale=3.0)

    hypothesis = "cue"
    size = "bits"
    count = staticmethod(lambda bits: 2**bits)
    weighs_far = False

    @property
    def outcomes(self) -> int:
        return self.symbols

    @property
    def features(self) -> int:
        return 3 * self.bits + self.symbols + 1

    @property
    def marginalises(self) -> bool:
        return False  # see `log_last`

    def sample(self, key: Array, tables: tuple[()], batch: int, observations: int) -> Batch:
        b, time_T = self.bits, jnp.arange(observations)
        drawn = uniform(key, (batch, observations, 3 * b + 4))
        value_BT = (drawn[..., 0] * self.symbols).astype(jnp.int32)
        asked_BT = (drawn[..., 1] * (self.hops + 1)).astype(jnp.int32)
        key_BTb = jnp.where(drawn[..., 4 : 4 + b] < 0.5, -1.0, 1.0)
        flip_BTb, flip_cue_BTb = jnp.split(jnp.where(drawn[..., 4 + b :] < self.noise, -1.0, 1.0), 2, axis=-1)
        log_lag_T = self.prior.log_density(jnp.arange(observations + 1, dtype=key_BTb.dtype))
        from_BT = time_T[None] - truncated(log_lag_T, drawn[..., 2], time_T)
        earlier_T = jnp.maximum(time_T - 1, 0)
        next_BT = jnp.maximum(earlier_T[None] - truncated(log_lag_T[1:], drawn[..., 3], earlier_T), 0)

        def follow(hop: Array, at_BT: Array) -> Array:
            return jnp.where(hop < asked_BT, jnp.take_along_axis(next_BT, at_BT, axis=1), at_BT)

        end_BT = lax.fori_loop(0, self.hops, follow, from_BT)
        pointer_BTb = jnp.take_along_axis(key_BTb, next_BT[:, :, None], axis=1) * flip_BTb
        pointer_BTb = jnp.where(time_T[None, :, None] > 0, pointer_BTb, 0.0)
        cue_BTb = jnp.take_along_axis(key_BTb, from_BT[:, :, None], axis=1) * flip_cue_BTb
        one_hot_BTV, number_BT1 = jax.nn.one_hot(value_BT, self.symbols), asked_BT[..., None].astype(key_BTb.dtype)
        inputs = jnp.concatenate([key_BTb, one_hot_BTV, pointer_BTb, cue_BTb, number_BT1], axis=2)
        outcome_BT = jnp.take_along_axis(value_BT, end_BT, axis=1)
        return Batch(inputs, outcome_BT, jnp.ones(outcome_BT.shape))

    def asked(self, batch: Batch, at: Array) -> Array:
        return self._seen(batch).asked[:, at]

    def asking(self, hops: int) -> "Hops":
        return dataclasses.replace(self, hops=hops)

    def words(self, inputs: np.ndarray) -> list[str]:
        """`3 9 2`: the pair stores the value 3, 9 bits of its key agree with the last cue, and it asks for 2 hops."""
        b, v = self.bits, self.symbols
        value_T, agree_T = inputs[:, b : b + v].argmax(axis=1), (inputs[:, :b] == inputs[-1, -b - 1 : -1]).sum(axis=1)
        rows = zip(value_T, agree_T, inputs[:, -1], strict=True)
        return [f"{value} {agree} {asked:.0f}" for value, agree, asked in rows]

    def _seen(self, batch: Batch) -> Seen:
        b, v = self.bits, self.symbols
        key, value, pointer, cue, asked = jnp.split(batch.inputs, [b, b + v, 2 * b + v, 3 * b + v], axis=-1)
        return Seen(key, jnp.where(value > 0, 0.0, -jnp.inf), pointer, cue, asked[..., 0].astype(jnp.int32))

    def _log_prior_of_lags(self, observations: int) -> Array:
        """[T]: log-prior, not normalised, of each lag."""
        return self.prior.log_density(jnp.arange(observations, dtype=jnp.result_type(float)))

    def _log_start(self, seen: Seen, at: Array, blind: bool = False) -> Array:
        """[B, P, T]: log a_t(j); where `blind`, from the prior alone."""
        back_PT = at[:, None] - jnp.arange(seen.key.shape[1])[None]
        return self._log_rows(seen.key, seen.cue[:, at], back_PT, back_PT >= 0, blind)

    def _log_steps(self, seen: Seen, at: Array, blind: bool = False) -> Array:
        """[B, P, T]: the rows `at` of log M; where `blind`, from the prior alone."""
        pair_T = jnp.arange(seen.key.shape[1])
        back_PT = at[:, None] - pair_T[None]
        log_row_BPT = self._log_rows(seen.key, seen.pointer[:, at], back_PT, back_PT > 0, blind)
        return jnp.where((at == 0)[None, :, None], jnp.where(pair_T == 0, 0.0, -jnp.inf)[None, None], log_row_BPT)

    def _log_rows(self, key_BTb: Array, noisy_BPb: Array, back_PT: Array, allowed_PT: Array, blind: bool) -> Array:
        """[B, P, T]: whose key a noisy key is, among the pairs allowed; −∞ for the others."""
        log_prior_PT = self._log_prior_of_lags(key_BTb.shape[1])[jnp.maximum(back_PT, 0)]
        log_joint_BPT = jnp.broadcast_to(log_prior_PT[None], (len(key_BTb), *log_prior_PT.shape))
        if not blind:
            log_joint_BPT += log_agreement(jnp.einsum("bpi,bti->bpt", noisy_BPb, key_BTb), self.bits, self.noise)
        return jax.nn.log_softmax(jnp.where(allowed_PT[None], log_joint_BPT, -jnp.inf), axis=-1)

    def log_posterior(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        """[B, P, T]: over the pairs to which the pointers lead."""
        seen = self._seen(batch)
        log_step_BTT = self._log_steps(seen, jnp.arange(seen.key.shape[1]))

        def follow(hop: Array, log_at_BPT: Array) -> Array:
            return jnp.where((hop < seen.asked[:, at])[..., None], log_product(log_at_BPT, log_step_BTT), log_at_BPT)

        return lax.fori_loop(0, jnp.max(seen.asked), follow, self._log_start(seen, at))

    def token_weights(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        """The posterior itself, since every token is a pair."""
        return self.log_posterior(tables, batch, at)

    def frame(self, tables: tuple[()], batch: Batch) -> Frame:
        key_BTb = self._seen(batch).key
        pairs = key_BTb.shape[1]
        return Frame("stored pairs", jnp.broadcast_to(jnp.arange(pairs), key_BTb.shape[:2]), pairs, True, key_BTb)

    def log_mixture(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        return log_product(self.log_posterior(tables, batch, at), self._seen(batch).log_value)

    def log_predictive(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        return self._within(batch, at, None)

    def _within(self, batch: Batch, at: Array, depth: int | None) -> Array:
        """[B, P, V]: the exact predictive; or with `depth` h that of a reasoner that follows h pointers and leaves what
        is beyond to the prior: a Mʰ M₀^(p−h), with M₀ that of a reasoner without pointers. From the end: what value
        n pointers lead to from each pair, for n = 0, 1, 2, …, which takes a [T, T] by [T, V] product a pointer.
        """
        seen = self._seen(batch)
        every, asked_BP = jnp.arange(seen.key.shape[1]), seen.asked[:, at]

        def through(rows: Callable[..., Array], where: Array, log_value_BTV: Array, blind: bool = False) -> Array:
            return by_blocks(lambda here: log_product(rows(seen, here, blind), log_value_BTV), batch, where)

        def read(hop: Array, log_value_BTV: Array, log_p_BPV: Array) -> Array:
            return jnp.where((asked_BP == hop)[..., None], through(self._log_start, at, log_value_BTV), log_p_BPV)

        def follow(hop: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            log_value_BTV, log_p_BPV = carry
            return through(self._log_steps, every, log_value_BTV), read(hop, log_value_BTV, log_p_BPV)

        log_p_BPV = jnp.full((*asked_BP.shape, self.symbols), -jnp.inf)
        most = jnp.max(seen.asked)
        near = most if depth is None else jnp.minimum(most, depth)
        log_value_BTV, log_p_BPV = lax.fori_loop(0, near, follow, (seen.log_value, log_p_BPV))
        log_p_BPV = read(near, log_value_BTV, log_p_BPV)
        if depth is None:
            return log_p_BPV

        def follow_far(more: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            """`depth` pointers lead to pairs from which there are `more` to go."""
            log_far_BTV, log_p_BPV = carry
            log_far_BTV = through(self._log_steps, every, log_far_BTV, blind=True)
            log_value_BTV = lax.fori_loop(0, depth, lambda _, x: through(self._log_steps, every, x), log_far_BTV)
            return log_far_BTV, read(more + depth, log_value_BTV, log_p_BPV)

        return lax.fori_loop(1, most - depth + 1, follow_far, (seen.log_value, log_p_BPV))[1]

    def log_last(self, tables: tuple[()], batch: Batch, at: Array, window: int) -> Array:
        """A reasoner that sees the question and the last pairs. A pair that it does not see has a uniform key and a
        uniform value, and what is there leads only to more of these. Not exact for what it sees: two pointers out of
        the window may mean one pair, and then are alike, which this reasoner does not weigh. So its KL bounds that of
        the exact one from above.
        """
        if window == 0:
            return uniform_log_predictive(batch.inputs.shape[0], at, self.symbols)
        seen = self._seen(batch)
        observations = seen.key.shape[1]
        lag_W = jnp.arange(min(window, observations))
        log_lag_T, lag_T = self._log_prior_of_lags(observations), jnp.arange(observations)
        # Of the lags beyond k, up to each: what leads out of the window, to a key that is any of 2^b.
        log_beyond_kT = lax.cumlogsumexp(jnp.where(lag_T[None] > lag_W[:, None], log_lag_T[None], -jnp.inf), axis=1)
        log_out_kT = log_beyond_kT - self.bits * math.log(2)

        def rows(noisy_Nb: Array, key_NWb: Array, allowed: Array, back: Array, log_out: Array) -> Array:
            """[…, W + 1]: whose key a noisy key is, with a last entry for all that is not seen."""
            log_seen = log_agreement(jnp.einsum("...i,...wi->...w", noisy_Nb, key_NWb), self.bits, self.noise)
            log_seen = jnp.where(allowed, log_lag_T[jnp.maximum(back, 0)] + log_seen, -jnp.inf)
            log_out = jnp.broadcast_to(log_out, log_seen.shape[:-1])
            return jax.nn.log_softmax(jnp.concatenate([log_seen, log_out[..., None]], axis=-1), axis=-1)

        def cut(at: Array) -> Array:
            pair_PW = at[:, None] - lag_W[None]
            exists_PW, is_end_PW, pair_PW = pair_PW >= 0, pair_PW <= 0, jnp.maximum(pair_PW, 0)
            key_BPWb, back_WW = seen.key[:, pair_PW], lag_W[None] - lag_W[:, None]
            log_start_BPW = rows(
                seen.cue[:, at], key_BPWb, exists_PW[None], lag_W[None, None], log_out_kT[-1][at][None]
            )
            log_step_BPWW = rows(
                seen.pointer[:, pair_PW],
                key_BPWb[:, :, None],
                exists_PW[None, :, None] & (back_WW > 0)[None, None],
                back_WW[None, None],
                log_out_kT[lag_W[::-1][None], pair_PW][None],
            )
            itself_WW = jnp.where(jnp.eye(len(lag_W), len(lag_W) + 1, dtype=bool), 0.0, -jnp.inf)
            log_step_BPWW = jnp.where(is_end_PW[None, ..., None], itself_WW[None, None], log_step_BPWW)
            log_any_BP1V = jnp.full((*log_start_BPW.shape[:2], 1, self.symbols), -math.log(self.symbols))
            asked_BP = seen.asked[:, at]

            def follow(hop: Array, log_value_BPWV: Array) -> Array:
                log_next_BPWV = jnp.concatenate([log_product(log_step_BPWW, log_value_BPWV), log_any_BP1V], axis=2)
                return jnp.where((hop < asked_BP)[..., None, None], log_next_BPWV, log_value_BPWV)

            log_value_BPWV = jnp.concatenate([seen.log_value[:, pair_PW], log_any_BP1V], axis=2)
            log_value_BPWV = lax.fori_loop(0, jnp.max(asked_BP), follow, log_value_BPWV)
            return log_product(log_start_BPW[:, :, None], log_value_BPWV)[:, :, 0]

        return by_blocks(cut, batch, at, terms=len(lag_W) ** 2)

    def baselines(self, tables: tuple[()], batch: Batch, at: Array, horizon: int) -> dict[str, Array]:
        """`hops-h` follows h pointers exactly and leaves the rest to the prior: what h layers can do, one pointer each
        (by doubling they could do more).
        """
        depths = [2**i for i in range(self.hops.bit_length()) if 2**i < self.hops]
        return {
            **super().baselines(tables, batch, at, horizon),
            **{f"hops-{depth}": self._within(batch, at, depth) for depth in depths},
        }


def log_product(log_a_NIJ: Array, log_b_NJV: Array) -> Array:
    """[…, I, V]: log Σ_j exp(log_a_ij + log_b_jv), a column at a time, so that nothing is larger than a."""
    log_c_VNI = lax.map(lambda b_NJ: logsumexp(log_a_NIJ + b_NJ[..., None, :], axis=-1), jnp.moveaxis(log_b_NJV, -1, 0))
    return jnp.moveaxis(log_c_VNI, 0, -1)

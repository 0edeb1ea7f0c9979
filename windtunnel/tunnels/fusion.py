"""`fusion` (bind, by evidence of two kinds): look a value up by a cue that comes through two noisy channels.

In the shapes of this file, b is the bits of a key, and L the levels of noise.
"""

import string
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array
from pydantic import Field

from windtunnel.spec import Knob, Noise, Positive, spec
from windtunnel.tunnels.base import Batch, uniform
from windtunnel.tunnels.recall import Recall, log_agreement


@spec
class Fusion(Recall):
    """As `recall`, but the key of the pair that is asked for comes through two channels of different kinds: A shows its
    bits, each flipped with probability ε, B the same key plus Gaussian noise, y = k + σ n. Every observation draws
    noise of its own for each channel, evenly from `levels` values, i/levels × `noise` for ε and i/levels × `sigma` for
    σ, i = 1 … levels, and shows it. With probability `dark` a channel shows nothing: zeros, its noise included. Given
    the key, the channels are independent, so their log-likelihoods add, each weighed by its gain λ:

        P(j | cue) ∝ prior(t − j) exp(Σ_i k_ji (λ_A x_i + λ_B y_i)),    λ_A = ½ log((1−ε)/ε),    λ_B = 1/σ².

    That is the combination of cues by reliability (Ernst & Banks 2002), of bits and of reals. In these data both
    channels show one key. Channels in conflict are a condition of the evaluation (`crossed`), not of the data: the
    exact reasoner believes in one key there, too, and its posterior is the same product.

    One observation is one token of 3b + V + 2 features: the key's bits, the value one-hot, x, ε, y, σ. With b = 2, keys
    ++ then +−, x = ++ with ε = 0.1 and y = (0, −1) with σ = 1, the second bit has evidence 1.10 − 1 = 0.10, and the
    first pair is e^0.2 times as likely as the second.
    """

    name: Literal["fusion"] = "fusion"  # pyrefly: ignore[bad-override]
    bits: Annotated[int, Field(ge=1, le=24)] = 8
    noise: Annotated[float, Field(gt=0, le=0.5, allow_inf_nan=False), Knob] = 0.4
    symbols: Annotated[int, Field(ge=2, le=1000)] = 16
    sigma: Positive = 3.0
    levels: Annotated[int, Field(ge=1, le=64)] = 4
    dark: Noise = 0.2

    @property
    def features(self) -> int:
        return 3 * self.bits + self.symbols + 2

    def sample(self, key: Array, tables: tuple[()], batch: int, observations: int) -> Batch:
        b, shape = self.bits, (batch, observations)
        key_uniform, key_normal = jax.random.split(key)
        drawn = uniform(key_uniform, (*shape, 6 + 2 * b))
        normal_BTb = jax.random.normal(key_normal, (batch * observations * b,), drawn.dtype).reshape(*shape, b)
        value_BT = (drawn[..., 0] * self.symbols).astype(jnp.int32)
        bit_BTb = jnp.where(drawn[..., 6 : 6 + b] < 0.5, -1.0, 1.0)
        source_BT = self._source(key, drawn[..., 1])
        asked_BTb = jnp.take_along_axis(bit_BTb, source_BT[:, :, None], axis=1)
        noise_L, sigma_L = self._levels(drawn.dtype)  # pyrefly: ignore[bad-argument-type]
        noise_BT1, sigma_BT1 = (
            of_L[(drawn[..., i : i + 1] * self.levels).astype(jnp.int32)] for i, of_L in ((2, noise_L), (3, sigma_L))
        )
        a_BTF = jnp.concatenate([asked_BTb * jnp.where(drawn[..., 6 + b :] < noise_BT1, -1.0, 1.0), noise_BT1], axis=2)
        b_BTF = jnp.concatenate([asked_BTb + sigma_BT1 * normal_BTb, sigma_BT1], axis=2)
        a_BTF, b_BTF = (
            jnp.where(drawn[..., i : i + 1] < self.dark, 0.0, of_BTF) for i, of_BTF in ((4, a_BTF), (5, b_BTF))
        )
        one_hot_BTV = jax.nn.one_hot(value_BT, self.symbols, dtype=drawn.dtype)
        inputs = jnp.concatenate([bit_BTb, one_hot_BTV, a_BTF, b_BTF], axis=2)
        outcome_BT = jnp.take_along_axis(value_BT, source_BT, axis=1)
        return Batch(inputs, outcome_BT, jnp.ones(outcome_BT.shape))

    def words(self, inputs: np.ndarray) -> list[str]:
        """`C 7 5`: the pair stores the third value, and its key agrees with the last cue in 7 bits through A and in the
        sign of 5 numbers through B.
        """
        b, v = self.bits, self.symbols
        key_Tb, value_TV, cues = inputs[:, :b], inputs[:, b : b + v], inputs[-1, b + v :]
        agree_TC = [(key_Tb * cue_b > 0).sum(axis=1) for cue_b in (cues[:b], cues[b + 1 : -1])]
        names = string.ascii_uppercase if v <= 26 else [f"v{value}" for value in range(v)]
        return [f"{names[value]} {a} {b}" for value, a, b in zip(value_TV.argmax(axis=1), *agree_TC, strict=True)]

    def crossed(self, batch: Batch) -> Batch:
        """Channels in conflict: B shows what it showed one observation before, which came from another draw of the
        pair. Where that pair is the same, by chance, nothing is in conflict. The first observation keeps its own.
        """
        first = 2 * self.bits + self.symbols + 1
        return batch._replace(inputs=batch.inputs.at[:, 1:, first:].set(batch.inputs[:, :-1, first:]))

    @property
    def channels(self) -> dict[str, tuple[Array, Array]]:
        noise_L, sigma_L = self._levels()
        return {"A": (noise_L, gain_of_flips(noise_L)), "B": (sigma_L, gain_of_sigma(sigma_L))}

    def log_weighed(self, tables: tuple[()], batch: Batch, at: Array, gains: dict[str, Array]) -> Array:
        _, noise_BT, _, sigma_BT = self._cues(batch)
        pairs = ((noise_BT, self.noise, gains["A"]), (sigma_BT, self.sigma, gains["B"]))
        index = [jnp.round(of_BT / most * self.levels).astype(jnp.int32) for of_BT, most, _ in pairs]  # 0: dark
        each = [jnp.pad(gain_L, (1, 0))[i_BT] for i_BT, (_, _, gain_L) in zip(index, pairs, strict=True)]
        return self._answer(batch, at, *each)

    def baselines(self, tables: tuple[()], batch: Batch, at: Array, horizon: int) -> dict[str, Array]:
        """Beside those of `recall`: `A` and `B`, who see one channel; `better`, who sees at every observation the one
        that says more, by its expected log-likelihood ratio; `blind`, who sees both and not their noise; each exact for
        what it sees. `equal-weights` is a heuristic: the mean of what `A` and `B` predict.
        """
        a_BT, b_BT = self._gains(batch)
        none_BT, a_is_better_BT = jnp.zeros_like(a_BT), a_BT * jnp.tanh(a_BT) > b_BT
        log_a = self._answer(batch, at, a_BT, none_BT)
        log_b = self._answer(batch, at, none_BT, b_BT)
        better = jnp.where(a_is_better_BT, a_BT, 0.0), jnp.where(a_is_better_BT, 0.0, b_BT)
        return {
            **super().baselines(tables, batch, at, horizon),
            "A": log_a,
            "B": log_b,
            "better": self._answer(batch, at, *better),
            "equal-weights": jnp.logaddexp(log_a, log_b) - jnp.log(2.0),
            "blind": self._blind(batch, at),
        }

    def _levels(self, dtype: Any = float) -> tuple[Array, Array]:
        """[L] each: the values of ε and of σ, from the least."""
        share_L = jnp.arange(1, self.levels + 1, dtype=dtype) / self.levels
        return self.noise * share_L, self.sigma * share_L

    def _cues(self, batch: Batch) -> tuple[Array, Array, Array, Array]:
        """x [B, T, b] and ε [B, T], y [B, T, b] and σ [B, T]; zeros in the dark."""
        cues_BTF = batch.inputs[..., self.bits + self.symbols :]
        a_BTF, b_BTF = cues_BTF[..., : self.bits + 1], cues_BTF[..., self.bits + 1 :]
        return a_BTF[..., :-1], a_BTF[..., -1], b_BTF[..., :-1], b_BTF[..., -1]

    def _gains(self, batch: Batch) -> tuple[Array, Array]:
        """λ_A and λ_B [B, T], from the noise that is shown; zero in the dark."""
        _, noise_BT, _, sigma_BT = self._cues(batch)
        return gain_of_flips(noise_BT), gain_of_sigma(sigma_BT)

    def _evidence(self, batch: Batch, a_BT: Array, b_BT: Array) -> Array:
        """[B, T, b]: λ_A x + λ_B y, for these gains."""
        x_BTb, _, y_BTb, _ = self._cues(batch)
        return a_BT[..., None] * x_BTb + b_BT[..., None] * y_BTb

    def _split(self, batch: Batch) -> tuple[Array, Array, Array]:
        """Keys, one-hot values, and in place of cues the evidence that they are."""
        b, v = self.bits, self.symbols
        return batch.inputs[..., :b], batch.inputs[..., b : b + v], self._evidence(batch, *self._gains(batch))

    def _log_likelihood(self, match: Array, cue: Array) -> Array:
        """The log-likelihood of pairs with whose keys the evidence has the inner product `match`, normalised such that
        it is 2^−b, as in `recall`, for a pair of which nothing is known: its mean over all keys is that.
        """
        return match - jnp.sum(jnp.logaddexp(cue, -cue), axis=-1, keepdims=True)

    def _answer(self, batch: Batch, at: Array, a_BT: Array, b_BT: Array) -> Array:
        """[B, P, V]: the predictive of who gives the channels these gains."""
        key_BTb, _, _ = self._split(batch)
        evidence_BTb = self._evidence(batch, a_BT, b_BT)
        return self._weigh(batch, at, lambda at: jnp.einsum("bpi,bti->bpt", evidence_BTb[:, at], key_BTb))

    def _blind(self, batch: Batch, at: Array) -> Array:
        """[B, P, V]: the likelihood of each channel is its mean over the levels; what is dark, all can see."""
        key_BTb, _, _ = self._split(batch)
        x_BTb, noise_BT, y_BTb, sigma_BT = self._cues(batch)
        noise_L, sigma_L = self._levels(key_BTb.dtype)

        def content(at: Array) -> Array:
            match_A, match_B = (jnp.einsum("bpi,bti->bpt", of_BTb[:, at], key_BTb) for of_BTb in (x_BTb, y_BTb))
            square_BP1 = jnp.sum(y_BTb[:, at] ** 2, axis=-1, keepdims=True)
            log_a = [log_agreement(match_A, self.bits, noise_L[i]) for i in range(self.levels)]
            log_b = [
                (match_B - (square_BP1 + self.bits) / 2) / sigma_L[i] ** 2 - self.bits * jnp.log(sigma_L[i])
                for i in range(self.levels)
            ]
            pairs = ((log_a, noise_BT), (log_b, sigma_BT))
            lit = [jnp.where(of_BT[:, at, None] > 0, logsumexp(jnp.stack(log), axis=0), 0.0) for log, of_BT in pairs]
            return lit[0] + lit[1]

        return self._weigh(batch, at, content, self.levels)


def gain_of_flips(noise: Array) -> Array:
    """½ log((1−ε)/ε); 0 where no noise is shown, in the dark."""
    lit = jnp.where(noise > 0, noise, 0.5)
    return (jnp.log1p(-lit) - jnp.log(lit)) / 2


def gain_of_sigma(sigma: Array) -> Array:
    """1/σ²; 0 where no noise is shown, in the dark."""
    return jnp.where(sigma > 0, 1 / jnp.where(sigma > 0, sigma, 1.0) ** 2, 0.0)

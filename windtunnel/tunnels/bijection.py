"""`bijection` (accumulate): a hidden bijection, shown pair by pair. After paper I of the wind-tunnel trilogy.

In the shapes of this file, K is the pairs that are inputs.
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array
from pydantic import Field

from windtunnel.spec import spec
from windtunnel.tunnels import answers
from windtunnel.tunnels.answers import Law
from windtunnel.tunnels.base import Batch, log_uniform, shuffled
from windtunnel.tunnels.finite import FiniteTables
from windtunnel.tunnels.pairs import Pairs


@spec
class Bijection(Pairs):
    """π is uniform over the V! bijections; a sequence is x₁ π(x₁) x₂ π(x₂) …, keys without replacement.

    Predict the value at each key. After k−1 pairs every bijection that agrees with them is equally likely, so

        p(π(x_k) = v | past) = 1 / (V − k + 1) for each value not yet used, 0 for the others;  H = log₂(V − k + 1).

    Entropy is then a function of position, and a model could predict it by counting. Two variants separate content from
    position: with `replacement` each key is drawn independently (the value of a key seen before is known, other keys
    have the unused values), and with `random_start` a random number of blanks come first (they are not scored).

    Keys are tokens 0 … V−1, values tokens V … 2V−1, a blank is 2V. With V = 3, the sequence `2 4 0 3` says π(2) = 1
    and π(0) = 0; predicting π(0) at the token `0` leaves values {0, 2}: one bit.
    """

    name: Literal["bijection"] = "bijection"
    symbols: Annotated[int, Field(ge=2, le=1000)] = 20
    replacement: bool = False
    random_start: bool = False

    hypothesis = "bijection"
    enumerable = 9  # 9! = 362,880

    @property
    def vocabulary(self) -> int:
        return 2 * self.symbols + self.random_start

    @property
    def capacity(self) -> int | None:
        return None if self.replacement else self.symbols

    def draw(self, key: Array, own: None, count: int) -> Array:
        return jax.vmap(lambda key: jax.random.permutation(key, self.symbols))(jax.random.split(key, count))

    def emit(self, key: Array, hypothesis: Array, own: None, observations: int) -> Batch:
        key_keys, key_start = jax.random.split(key)
        if self.replacement:
            key_P = jax.random.randint(key_keys, (observations,), 0, self.symbols)
        else:
            key_P = jax.random.permutation(key_keys, self.symbols)[:observations]
        value_P = hypothesis[key_P]
        start = jax.random.randint(key_start, (), 0, observations) if self.random_start else 0
        visible_P = jnp.arange(observations) >= start
        pair_P2 = jnp.where(visible_P[:, None], jnp.stack([key_P, value_P + self.symbols], axis=1), 2 * self.symbols)
        return Batch(pair_P2.reshape(-1)[:-1], value_P, visible_P.astype(jnp.result_type(float)))

    def log_channel(self, hypotheses: Array, batch: Batch, at: Array) -> Array:
        """[B, P, H, V]: 0 for the one value that a bijection allows, −∞ for the others."""
        value_BPH = self._values(hypotheses, batch)[:, at]
        return jnp.where(jax.nn.one_hot(value_BPH, self.symbols, dtype=bool), 0.0, -jnp.inf)

    def log_seen(self, hypotheses: Array, batch: Batch) -> Array:
        return jnp.where(self._values(hypotheses, batch) == batch.outcome_BP[:, :, None], 0.0, -jnp.inf)

    def _values(self, hypotheses: Array, batch: Batch) -> Array:
        """[B, T, H]: the value of each key under each bijection."""
        return jnp.moveaxis(hypotheses[:, batch.inputs[:, 0::2]], 0, -1)

    @property
    def independent(self) -> bool:  # pyrefly: ignore[bad-override]
        """Blanks in front are no outcomes."""
        return not self.random_start

    def aleatoric(self, tables: FiniteTables, batch: Batch, at: Array) -> Array:
        """A bijection determines every value."""
        return jnp.zeros((len(batch.inputs), len(at)))

    def token_weights(self, tables: FiniteTables, batch: Batch, at: Array) -> Array:
        """The value that the key had before; if it had none, the values that are eliminated, equally."""
        inputs, token_P = batch.inputs, jnp.asarray(self.scored(batch.outcome_BP.shape[1]))[at]
        tokens = jnp.arange(inputs.shape[1])
        is_value_BT = (tokens % 2 == 1)[None] & (inputs >= self.symbols) & (inputs < 2 * self.symbols)
        past_BPT = is_value_BT[:, None] & (tokens[None] < token_P[:, None])[None]
        same_BPT = past_BPT & (jnp.roll(inputs, 1, axis=1)[:, None] == inputs[:, token_P][:, :, None])
        known_BP1 = jnp.any(same_BPT, axis=-1, keepdims=True)
        return answers.evenly(jnp.where(known_BP1, same_BPT, past_BPT))

    def reordered(self, key: Array, inputs_BT: Array) -> Array:
        """The pairs before the last key in another order, blanks among them."""
        pair_BPC = inputs_BT[:, :-1].reshape(len(inputs_BT), -1, 2)
        number_BP = jnp.broadcast_to(jnp.arange(pair_BPC.shape[1]), pair_BPC.shape[:2])
        order_BP = shuffled(key, number_BP, 0)
        pair_BPC = jnp.take_along_axis(pair_BPC, order_BP[..., None], axis=1)
        return jnp.concatenate([pair_BPC.reshape(len(inputs_BT), -1), inputs_BT[:, -1:]], axis=1)

    def law(self, observations: int) -> Law | None:
        return None if self.replacement or self.random_start else Law("count", 1.0, "slope")

    def log_exact(self, own: None, batch: Batch, at: Array) -> Array:
        return self._last(batch, at, batch.outcome_BP.shape[1])

    def log_last(self, tables: FiniteTables, batch: Batch, at: Array, window: int) -> Array:
        return self._last(batch, at, window)

    def _last(self, batch: Batch, at: Array, window: int) -> Array:
        """[B, P, V]: the value that the key had in the window; else uniform over the values not used in the window."""
        key_BT, value_BK = self.split(batch)
        back_PK = at[:, None] - jnp.arange(value_BK.shape[1])[None]
        seen_BPK = ((back_PK > 0) & (back_PK <= window))[None]
        same_BPK = key_BT[:, at][:, :, None] == key_BT[:, None, :-1]
        value_BKV = jax.nn.one_hot(value_BK, self.symbols)  # a blank gives a row of zeros

        def occurs(pair_BPK: Array) -> Array:
            return jnp.einsum("bpk,bkv->bpv", pair_BPK.astype(value_BKV.dtype), value_BKV) > 0

        used_BPV, known_BPV = occurs(jnp.broadcast_to(seen_BPK, same_BPK.shape)), occurs(seen_BPK & same_BPK)
        is_known_BP1 = jnp.any(known_BPV, axis=-1, keepdims=True)
        return log_uniform(jnp.where(is_known_BP1, known_BPV, ~used_BPV))

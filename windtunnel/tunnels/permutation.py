"""`permutation` (accumulate under noise): a hidden permutation near the identity, shown by pairs that may be wrong.

In the shapes of this file, N is matrices or draws side by side, R the rows of a matrix, C the sets of k columns, and x
the V² possible pairs.
"""

import itertools
import math
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import xlog1py, xlogy
from jaxtyping import Array
from pydantic import Field

from windtunnel.priors import GeneralizedGaussian, Prior
from windtunnel.spec import Noise, spec
from windtunnel.tunnels.answers import Law
from windtunnel.tunnels.base import Batch, uniform
from windtunnel.tunnels.finite import FiniteTables
from windtunnel.tunnels.pairs import Pairs


@spec
class Permutation(Pairs):
    """P(π) ∝ Π_i exp(log_density(|i − π(i)|)) over the V! permutations; a sequence is x₁ y₁ x₂ y₂ …, where each key is
    uniform (with replacement) and y is π(x), or with probability ε one of the V−1 other values. Predict y at each key.
    With n_xv the number of times that key x came with value v, the posterior is a product too, over a weight matrix,

        P(π | past) ∝ Π_i w_iπ(i),      log w_iv = log_density(|i − v|) + n_iv log((1−ε)(V−1)/ε),

    and m_xv = P(π(x) = v | past) ∝ w_xv · perm(w without row x and column v), a permanent. `fill` sums it over sets of
    columns, in V 2^(V−1) terms where enumeration has V!. Then p(y) = m_xy (1−ε) + (1 − m_xy) ε/(V−1).

    Keys are tokens 0 … V−1, values tokens V … 2V−1, the last value is never an input. With V = 3, ε = 0.2 and a uniform
    prior, after `0 4` (π(0) looks like 1) the six permutations weigh 8 where π(0) = 1 and 1 elsewhere. So the key 1 has
    the marginal (9, 2, 9)/20, and its value is 0 with probability 0.45 · 0.8 + 0.55 · 0.1 = 0.415.
    """

    name: Literal["permutation"] = "permutation"
    symbols: Annotated[int, Field(ge=2, le=10)] = 7
    noise: Noise = 0.1
    prior: Prior = GeneralizedGaussian(scale=3.0, beta=1.5)

    hypothesis = "permutation"
    enumerable = 8  # 8! = 40,320

    @property
    def limit_bits(self) -> float | None:
        """In the limit π is known and only the noise remains: H₂(ε) + ε log₂(V−1)."""
        noise, other = float(self.noise), float(self.noise) / (self.symbols - 1)
        return -(1 - noise) * math.log2(1 - noise) - (noise * math.log2(other) if noise > 0 else 0.0)

    def aleatoric(self, tables: FiniteTables, batch: Batch, at: Array) -> Array:
        """Whatever the permutation, a value is replaced with probability ε: H(ε) + ε ln(V−1)."""
        entropy = -(xlog1py(1 - self.noise, -self.noise) + xlogy(self.noise, self.noise / (self.symbols - 1)))
        return jnp.full((len(batch.inputs), len(at)), entropy)

    def _log_prior(self) -> Array:
        """[V, V]: of each value of each key, not normalised."""
        symbol_V = jnp.arange(self.symbols, dtype=jnp.result_type(float))
        return self.prior.log_density(jnp.abs(symbol_V[:, None] - symbol_V[None]))

    def tabulate(self, observations: int) -> list[Array]:
        """[C, k] for k = 1 … V: if keys 0 … k−1 have the values of a set of k, the cumulative distribution over which
        of them key k−1 has.
        """
        cumulative = []
        for terms in fill(self._log_prior()[:, :, None]):
            total_Ck = jnp.cumsum(jax.nn.softmax(jnp.concatenate(terms, axis=1), axis=1), axis=1)
            cumulative.append(total_Ck / total_Ck[:, -1:])
        return cumulative

    def draw(self, key: Array, own: list[Array], count: int) -> Array:
        """int[count, V], exactly from the prior: the value of the last key first, then those of the keys before it."""
        # Always drawn in float32, so that the pool does not depend on the precision.
        level_VN = jax.random.uniform(key, (self.symbols * count,), jnp.float32).reshape(self.symbols, count)
        set_N, value_NV = jnp.zeros(count, jnp.int32), []
        for (before_kC, column_kC), cumulative_Ck, level_N in reversed(
            list(zip(subsets(self.symbols), own, level_VN, strict=True))
        ):
            choice_N = jnp.sum(level_N[:, None] >= cumulative_Ck[set_N], axis=-1)
            value_NV.append(jnp.asarray(column_kC)[choice_N, set_N])
            set_N = jnp.asarray(before_kC)[choice_N, set_N]
        return jnp.stack(value_NV[::-1], axis=1)

    def emit(self, key: Array, hypothesis: Array, own: list[Array], observations: int) -> Batch:
        key_level_P, flip_level_P, shift_level_P = uniform(key, (3, observations))
        key_P = (key_level_P * self.symbols).astype(jnp.int32)
        shift_P = jnp.where(flip_level_P < self.noise, 1 + (shift_level_P * (self.symbols - 1)).astype(jnp.int32), 0)
        value_P = (hypothesis[key_P] + shift_P) % self.symbols
        pair_P2 = jnp.stack([key_P, value_P + self.symbols], axis=1)
        return Batch(pair_P2.reshape(-1)[:-1], value_P, jnp.ones(observations))

    def _channel(self, same: Array) -> Array:
        """log p(y | π), from whether y is π(x)."""
        return jnp.where(same, jnp.log1p(-self.noise), jnp.log(self.noise / (self.symbols - 1)))

    def log_channel(self, hypotheses: Array, batch: Batch, at: Array) -> Array:
        value_BPH = jnp.moveaxis(hypotheses[:, batch.inputs[:, 0::2][:, at]], 0, -1)
        return self._channel(jax.nn.one_hot(value_BPH, self.symbols, dtype=bool))

    def log_seen(self, hypotheses: Array, batch: Batch) -> Array:
        value_BTH = jnp.moveaxis(hypotheses[:, batch.inputs[:, 0::2]], 0, -1)
        return self._channel(value_BTH == batch.outcome_BP[:, :, None])

    def log_exact(self, own: list[Array], batch: Batch, at: Array) -> Array:
        return self._last(batch, at, batch.outcome_BP.shape[1])

    def law(self, observations: int) -> Law:
        """The closest permutations differ by a transposition, which is visible at two of V keys. With ρ = Σ_v √(p_v
        q_v) at such a key, C = −ln(1 − (2/V)(1 − ρ)) by symmetry.
        """
        V, noise = self.symbols, float(self.noise)
        overlap = 2 * math.sqrt((1 - noise) * noise / (V - 1)) + (V - 2) * noise / (V - 1)
        return Law("few", -math.log(1 - (2 / V) * (1 - overlap)), "nats an observation")

    def baselines(self, tables: FiniteTables, batch: Batch, at: Array, horizon: int) -> dict[str, Array]:
        """`last-w` has the counts of its window, `prior` none: it knows the key that is asked."""
        if self.pool is not None:
            return super().baselines(tables, batch, at, horizon)
        seen = {"prior": 0, **self.windows(horizon)}
        log_p_WBPV = lax.map(lambda w: self._last(batch, at, w), jnp.asarray(list(seen.values())))
        return dict(zip(seen, log_p_WBPV, strict=True))

    def _last(self, batch: Batch, at: Array, window: Array | int) -> Array:
        """[B, P, V]: the predictive of a reasoner that sees the last `window` pairs and the current key."""
        key_BT, value_BK = self.split(batch)
        (B, P), V = (key_BT.shape[0], at.shape[0]), self.symbols
        pair_BKx = jax.nn.one_hot(key_BT[:, :-1] * V + value_BK, V * V, dtype=jnp.int32)
        total_BTx = jnp.cumsum(jnp.pad(pair_BKx, ((0, 0), (1, 0), (0, 0))), axis=1)
        seen_BPx = total_BTx[:, at] - total_BTx[:, jnp.maximum(at - window, 0)]
        seen_VVN = jnp.moveaxis(seen_BPx.reshape(B * P, V, V), 0, -1)  # the long axis last is fastest on a CPU
        # Relative to the value seen most often: the large weights are then near 1, and without noise nothing is 0 · ∞.
        behind_VVN = jnp.max(seen_VVN, axis=1, keepdims=True) - seen_VVN
        log_odds = jnp.log(self.noise / ((1 - self.noise) * (V - 1)))
        log_weight_VVN = self._log_prior()[:, :, None] + jnp.where(behind_VVN > 0, behind_VVN * log_odds, 0.0)
        # The row of the current key, and all other rows in order.
        row_V1N, asked_1N = jnp.arange(V)[:, None, None], key_BT[:, at].reshape(1, -1)
        asked_VN = jnp.sum(jnp.where(row_V1N == asked_1N[None], log_weight_VVN, 0.0), axis=0)
        others_RVN = jnp.where(row_V1N[:-1] < asked_1N[None], log_weight_VVN[:-1], log_weight_VVN[1:])
        log_rest_VN = log_sum(fill(others_RVN)[-1])[::-1]  # the v-th set from the end lacks v
        log_marginal_VN = jax.nn.log_softmax(asked_VN + log_rest_VN, axis=0)
        log_kept, log_other = jnp.log1p(-self.noise * V / (V - 1)), jnp.log(self.noise / (V - 1))
        return jnp.logaddexp(log_marginal_VN + log_kept, log_other).T.reshape(B, P, V)


@cache
def subsets(columns: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For k = 1 … V, of the C sets of k columns in lexicographic order: `before` int[k, C], the index of the set of
    size k−1 without the j-th column, and `column` int[k, C], that column.
    """
    sizes = [list(itertools.combinations(range(columns), k)) for k in range(columns + 1)]
    index = {chosen: i for size in sizes for i, chosen in enumerate(size)}
    return [
        (np.array([[index[s[:j] + s[j + 1 :]] for s in size] for j in range(k)], np.int32), np.array(size, np.int32).T)
        for k, size in enumerate(sizes[1:], 1)
    ]


def fill(log_weight_RVN: Array) -> list[list[Array]]:
    """For k = 1 … R, k arrays [C, N]: log of Σ Π_i w_iσ(i) over all assignments σ of rows 0 … k−1 to the columns of
    each set of k columns in which the last row has the j-th column; for N matrices at once. In log space, because all
    the weight may be on an assignment that is negligible for each row by itself.
    """
    rows, columns, matrices = log_weight_RVN.shape
    log_ways_CN, steps = jnp.zeros((1, matrices), log_weight_RVN.dtype), []
    for (before_kC, column_kC), log_weight_VN in zip(subsets(columns)[:rows], log_weight_RVN, strict=True):

        def terms(log_ways_CN: Array, log_weight_VN: Array, sets: Any = (before_kC, column_kC)) -> list[Array]:
            return [log_ways_CN[before_C] + log_weight_VN[column_C] for before_C, column_C in zip(*sets, strict=True)]

        steps.append(terms(log_ways_CN, log_weight_VN))
        log_ways_CN = apart(lambda *of, terms=terms: log_sum(terms(*of)), log_ways_CN, log_weight_VN)
    return steps


def apart(function: Callable[..., Array], *arguments: Array) -> Array:
    """function(*arguments), with its arguments and result as arrays in memory. Otherwise XLA recomputes an argument for
    every term that gathers from it. On a CPU it ignores `optimization_barrier`, but it does not fuse across branches.
    """
    always = arguments[0].ravel()[0] < jnp.inf  # true for every log-weight, but XLA cannot know that
    otherwise = jax.eval_shape(function, *arguments)
    return lax.cond(always, function, lambda *_: jnp.full(otherwise.shape, jnp.nan, otherwise.dtype), *arguments)


def log_sum(terms: list[Array]) -> Array:
    """logsumexp over a list: several times faster than over an axis, since the terms are never stored."""
    top = terms[0]
    for term in terms[1:]:
        top = jnp.maximum(top, term)
    top = jnp.where(top == -jnp.inf, 0.0, top)
    total = jnp.exp(terms[0] - top)
    for term in terms[1:]:
        total += jnp.exp(term - top)
    return jnp.log(total) + top

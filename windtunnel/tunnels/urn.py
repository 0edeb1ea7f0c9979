"""`urn` (accumulate): a bias on a grid, learned from its draws; two counts are a sufficient statistic.

In the shapes of this file, K is pairs of counts, N the blocks of W hypotheses, and S the possible numbers of ones.
"""

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array
from pydantic import Field

from windtunnel.priors import Prior, Uniform
from windtunnel.spec import Noise, spec
from windtunnel.tunnels import answers
from windtunnel.tunnels.answers import SETTLED, UNSETTLED, Frame, Law, chernoff
from windtunnel.tunnels.base import Batch
from windtunnel.tunnels.finite import Finite, FiniteTables

START = 2  # the first token, before anything has been drawn
TABULATED = 1024  # predictives are tabulated up to so many observations: 4 MB
BLOCK = 2**20  # the number of (counts, hypothesis) pairs in memory at once


class UrnTables(NamedTuple):
    """`cumulative_H` is the cumulative prior. `log_odds_TT` at [n, s ≤ n] is the predictive's log p(1) / p(0), nats,
    after n draws, s of them 1; `pool_TT` is the same for the reasoner that knows the pool.
    """

    cumulative_H: Array
    log_odds_TT: Array
    pool_TT: Array | None = None


@spec
class Urn(Finite):
    """θ_h = (h + ½)/N is one of N `hypotheses`; the prior is over its distance from the centre in percent, 100 |θ_h −
    ½|. Draws are 1 with probability θ_h, and each is flipped with probability ε: q_h = θ_h(1−ε) + (1−θ_h)ε. Predict the
    next draw. After n draws, s of them 1,

        p(1 | n, s) = Σ_h P(h) q_h^(s+1) (1−q_h)^(n−s) / Σ_h P(h) q_h^s (1−q_h)^(n−s).

    Order does not matter: one attention head with equal weights on all draws has all the information. With a fine grid,
    the uniform prior and no noise this is Laplace's rule, (s + 1)/(n + 2).

    Token t is draw t−1, token 0 is a start (2). With N = 2 and ε = 0, θ is ¼ or ¾; after one draw, a 1, the next is 1
    with probability (¼² + ¾²)/(¼ + ¾) = 5/8.
    """

    name: Literal["urn"] = "urn"
    hypotheses: Annotated[int, Field(ge=2, le=1_000_000)] = 1000  # pyrefly: ignore[bad-override]
    noise: Noise = 0.1
    prior: Prior = Uniform()

    hypothesis = "bias"

    @property
    def outcomes(self) -> int:
        return 2

    @property
    def vocabulary(self) -> int:
        return 3

    @property
    def outcome_tokens(self) -> np.ndarray:
        return np.arange(self.outcomes)

    @property
    def start(self) -> int:
        return START

    @property
    def exchangeable(self) -> bool:
        return True

    def support(self) -> tuple[Array, Array]:
        hypothesis_H = jnp.arange(self.hypotheses)
        percent_H = jnp.abs(2 * hypothesis_H + 1 - self.hypotheses) * (50 / self.hypotheses)
        density_H = lax.optimization_barrier(
            self.prior.log_density(percent_H)
        )  # else XLA folds the sum while compiling
        return hypothesis_H, jax.nn.log_softmax(density_H)

    def _channel(self, hypotheses: Array) -> Array:
        """[H, V]: 1 − q_h and q_h. Neither is 0 for any noise."""
        zero_H, one_H = (self.hypotheses - hypotheses - 0.5) / self.hypotheses, (hypotheses + 0.5) / self.hypotheses
        clean_HV, flipped_HV = jnp.stack([zero_H, one_H], axis=-1), jnp.stack([one_H, zero_H], axis=-1)
        return clean_HV * (1 - self.noise) + flipped_HV * self.noise

    def tabulate(self, observations: int) -> UrnTables:
        hypothesis_H, log_prior_H = self.support()
        log_odds_TT = table(log_prior_H, self._channel(hypothesis_H), min(observations - 1, TABULATED))
        return UrnTables(jnp.cumsum(jnp.exp(log_prior_H)), log_odds_TT)

    def prepare(self, observations: int) -> FiniteTables:
        tables = super().prepare(observations)
        if self.pool is None:
            return tables
        hypothesis_H, log_prior_H = self._candidates(tables)
        pool_TT = table(log_prior_H, self._channel(hypothesis_H), min(observations - 1, TABULATED))
        return tables._replace(own=tables.own._replace(pool_TT=pool_TT))

    def draw(self, key: Array, own: UrnTables, count: int) -> Array:
        """int[count]: by the inverse of the cumulative prior. In float32, so that the pool is the same in any
        precision.
        """
        level = jax.random.uniform(key, (count,), jnp.float32) * own.cumulative_H[-1]
        return jnp.searchsorted(own.cumulative_H, level, side="right").astype(jnp.int32)

    def emit(self, key: Array, hypothesis: Array, own: UrnTables, observations: int) -> Batch:
        outcome_T = jax.random.bernoulli(key, self._channel(hypothesis)[1], (observations,)).astype(jnp.int32)
        inputs_T = jnp.concatenate([jnp.full(1, START, jnp.int32), outcome_T[:-1]])
        return Batch(inputs_T, outcome_T, jnp.ones(observations))

    def log_channel(self, hypotheses: Array, batch: Batch, at: Array) -> Array:
        """[B, P, H, V]: the same at every position."""
        log_channel_HV = jnp.log(self._channel(hypotheses))
        return jnp.broadcast_to(log_channel_HV, (batch.inputs.shape[0], at.shape[0], *log_channel_HV.shape))

    def log_posterior(self, tables: FiniteTables, batch: Batch, at: Array) -> Array:
        hypothesis_H, log_prior_H = self._candidates(tables)
        seen_BPV = self._seen(batch, at, batch.inputs.shape[1])
        log_joint_KH = log_joint(log_prior_H, self._channel(hypothesis_H), seen_BPV.reshape(-1, 2))
        return jax.nn.log_softmax(log_joint_KH, axis=-1).reshape(*seen_BPV.shape[:2], -1)

    def log_predictive(self, tables: FiniteTables, batch: Batch, at: Array) -> Array:
        if self.pool is None:
            return self.log_exact(tables.own, batch, at)
        return self._predict(tables.own.pool_TT, self._candidates(tables), batch, at, batch.inputs.shape[1])

    def log_exact(self, own: UrnTables, batch: Batch, at: Array) -> Array:
        return self._predict(own.log_odds_TT, self.support(), batch, at, batch.inputs.shape[1])

    def log_last(self, tables: FiniteTables, batch: Batch, at: Array, window: int) -> Array:
        """Draws that are not seen sum to one under every hypothesis, so only the window's counts matter."""
        return self._predict(tables.own.log_odds_TT, self.support(), batch, at, window)

    def token_weights(self, tables: FiniteTables, batch: Batch, at: Array) -> Array:
        """Order does not matter, so all draws have equal weight."""
        tokens = jnp.arange(batch.inputs.shape[1])
        seen_PT = (tokens[None] <= at[:, None]) & (tokens[None] > 0)
        return answers.evenly(jnp.broadcast_to(seen_PT[None], (len(batch.inputs), *seen_PT.shape)))

    def frame(self, tables: FiniteTables, batch: Batch) -> Frame:
        return answers.symbols(batch.inputs, self.outcomes)

    def law(self, observations: int) -> Law:
        """One parameter; the closest hypotheses are neighbours on the grid."""
        q_H = self._chances()
        closest = min(
            chernoff(np.asarray([1 - a, a]), np.asarray([1 - b, b]))
            for a, b in {(q_H[len(q_H) // 2 - 1], q_H[len(q_H) // 2]), (q_H[0], q_H[1])}
        )
        reached = observations * closest
        if reached >= SETTLED:
            return Law("few", closest, "nats an observation")
        if reached <= UNSETTLED:
            return Law("smooth", 1.0, "parameters")
        return Law("crossover", closest, "nats an observation")

    def excess_bits(self, seen: np.ndarray) -> np.ndarray:
        """E[H(predictive after n draws)] − E_h[H(q_h)], bits, for every n in `seen`, as an exact sum over counts.

        It is the mutual information between the next draw and the hypothesis, given the draws before it.
        """
        from scipy.special import gammaln, logsumexp

        q_H = self._chances()
        percent_H = np.abs(2 * np.arange(self.hypotheses) + 1 - self.hypotheses) * (50 / self.hypotheses)
        log_prior_H = np.asarray(self.prior.log_density(jnp.asarray(percent_H)), np.float64)
        log_prior_H -= logsumexp(log_prior_H)
        limit = np.sum(np.exp(log_prior_H) * answers.binary_entropy_bits(q_H))
        excess = []
        for n in np.round(seen).astype(int):
            s_S = np.arange(n + 1)
            ways_S = gammaln(n + 1) - gammaln(s_S + 1) - gammaln(n - s_S + 1)
            log_joint_HS = log_prior_H[:, None] + np.log(q_H)[:, None] * s_S + np.log1p(-q_H)[:, None] * (n - s_S)
            log_seen_S = logsumexp(log_joint_HS, axis=0)
            one_S = np.exp(logsumexp(log_joint_HS + np.log(q_H)[:, None], axis=0) - log_seen_S)
            excess.append(np.sum(np.exp(log_seen_S + ways_S) * answers.binary_entropy_bits(one_S)) - limit)
        return np.asarray(excess)

    def _chances(self) -> np.ndarray:
        """[H]: q_h in float64."""
        theta_H = (np.arange(self.hypotheses) + 0.5) / self.hypotheses
        return theta_H * (1 - float(self.noise)) + (1 - theta_H) * float(self.noise)

    def _seen(self, batch: Batch, at: Array, window: int) -> Array:
        """int[B, P, V]: the count of each outcome among the last `window` draws before `at`."""
        total_BTV = jnp.cumsum(jax.nn.one_hot(batch.inputs, 2, dtype=jnp.int32), axis=1, dtype=jnp.int32)
        return total_BTV[:, at] - total_BTV[:, jnp.maximum(at - window, 0)]  # token 0 is the start, not a draw

    def _predict(self, log_odds_TT: Array, candidates: Any, batch: Batch, at: Array, window: int) -> Array:
        """[B, P, V]: the predictive of a reasoner with these candidates, their table and the last `window` draws."""
        seen_BPV = self._seen(batch, at, window)
        if min(window, batch.inputs.shape[1] - 1) < len(log_odds_TT):
            log_odds_BP = log_odds_TT[jnp.sum(seen_BPV, axis=-1), seen_BPV[..., 1]]
        else:
            hypothesis_H, log_prior_H = candidates
            log_odds_K = log_odds(log_prior_H, self._channel(hypothesis_H), seen_BPV.reshape(-1, 2))
            log_odds_BP = log_odds_K.reshape(seen_BPV.shape[:2])
        return jax.nn.log_sigmoid(jnp.stack([-log_odds_BP, log_odds_BP], axis=-1))


def log_joint(log_prior_H: Array, channel_HV: Array, seen_KV: Array) -> Array:
    """[K, H]: log P(h) Π_v p(v | h)^seen_v, for K pairs of counts."""
    log_0_H, log_1_H = jnp.log(channel_HV[:, 0]), jnp.log(channel_HV[:, 1])
    seen_KV = seen_KV.astype(log_prior_H.dtype)
    return log_prior_H[None] + seen_KV[:, :1] * log_0_H[None] + seen_KV[:, 1:] * log_1_H[None]


def log_odds(log_prior_H: Array, channel_HV: Array, seen_KV: Array) -> Array:
    """[K]: log p(1) / p(0) for K pairs of counts. Hypotheses are summed in blocks, so that memory does not grow with
    H.
    """
    hypotheses, pairs = len(log_prior_H), len(seen_KV)
    width = min(hypotheses, max(1, BLOCK // pairs))
    short = -hypotheses % width
    log_prior_NW = jnp.pad(log_prior_H, (0, short), constant_values=-jnp.inf).reshape(-1, width)
    channel_NWV = jnp.pad(channel_HV, ((0, short), (0, 0)), constant_values=0.5).reshape(-1, width, 2)

    def add(carry: tuple[Array, Array], block: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        """The largest log-weight so far, and Σ_h weight_h p(v | h) as a multiple of its exponential."""
        top_K, total_KV = carry
        log_prior_W, channel_WV = block
        log_joint_KW = log_joint(log_prior_W, channel_WV, seen_KV)
        higher_K = jnp.maximum(top_K, jnp.max(log_joint_KW, axis=-1))
        weight_KW = jnp.exp(log_joint_KW - higher_K[:, None])
        more_KV = jnp.matmul(weight_KW, channel_WV, precision=lax.Precision.HIGHEST)
        return (higher_K, total_KV * jnp.exp(top_K - higher_K)[:, None] + more_KV), None

    dtype = log_prior_H.dtype
    nothing = jnp.full(pairs, jnp.finfo(dtype).min), jnp.zeros((pairs, 2), dtype)
    (_, total_KV), _ = lax.scan(add, nothing, (log_prior_NW, channel_NWV))
    return jnp.log(total_KV[:, 1]) - jnp.log(total_KV[:, 0])


def table(log_prior_H: Array, channel_HV: Array, most: int) -> Array:
    """[n, s]: log p(1) / p(0) for all n ≤ `most`. Only the rows `most`, ½ `most`, ¼ `most`, … are computed as sums over
    hypotheses. Each other row follows from the row n+1, because 0 then 1 is as likely as 1 then 0 after any draws:

        (1 − p(1 | n, s)) p(1 | n+1, s) = p(1 | n, s) (1 − p(1 | n+1, s+1)).

    One row would suffice without rounding: a rounding error of row m is up to m/n times as large in row n.
    """
    computed = [most >> i for i in range(most.bit_length() + 1)]
    n_K = np.concatenate([np.full(n + 1, n) for n in computed])
    s_K = np.concatenate([np.arange(n + 1) for n in computed])
    log_odds_K = log_odds(log_prior_H, channel_HV, jnp.asarray(np.stack([n_K - s_K, s_K], axis=-1)))
    answer_TT = jnp.zeros((most + 1, most + 1)).at[n_K, s_K].set(log_odds_K)

    def fill(below_T: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        answer_T, is_computed = row
        next_T = jnp.append(below_T[1:], below_T[-1:])  # entries with s > n mean nothing, but stay finite
        row_T = jnp.where(is_computed, answer_T, jax.nn.log_sigmoid(below_T) - jax.nn.log_sigmoid(-next_T))
        return row_T, row_T

    is_computed_T = jnp.isin(jnp.arange(most + 1), np.asarray(computed))
    return lax.scan(fill, answer_TT[-1], (answer_TT, is_computed_T), reverse=True)[1]

"""`regression` (accumulate): linear regression in context. After Garg et al. 2022 and Raventós et al. 2023.

In the shapes of this file, d is the dimension of x, and W the windows.
"""

import math
from statistics import NormalDist
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array
from pydantic import Field

from windtunnel.spec import Positive, spec
from windtunnel.tunnels.answers import Law
from windtunnel.tunnels.base import Batch, uniform, uniform_log_predictive
from windtunnel.tunnels.finite import Finite, FiniteTables

CELLS = 64
EDGE = np.asarray([-np.inf, *(NormalDist().inv_cdf(cell / CELLS) for cell in range(1, CELLS)), np.inf])  # under N(0, 1)


@spec
class Regression(Finite):
    """Each sequence x₁ y₁ x₂ y₂ … has one w ~ N(0, I_d), with x_t ~ N(0, I_d) and y_t = w·x_t + σ n_t, n_t ~ N(0, 1).

    Predict y at each x. With X, Y the pairs before it, the exact predictive is that of ridge regression:

        y | x, X, Y ~ N(x·μ, xᵀΣx + σ²),      Σ = (I + XᵀX/σ²)⁻¹,      μ = Σ XᵀY/σ².

    For a pool of M vectors it is a mixture of N(w_m·x, σ²), each weighted by the density of Y under w_m (Raventós et
    al. call it dMMSE). The inputs contain y itself; the outcome is the cell that contains y, one of 64 cells that are
    equiprobable under N(0, |x|² + σ²), the distribution of y before any pair is seen.

    Observation t is two tokens of d + 2 features: x_t, 0, 1, then 0 … 0, y_t, 0; the last feature marks a query. With d
    = 1 and σ = 1, after the pair x = 1, y = 2: μ = 1, Σ = ½, and at x = 2 the answer is N(2, 3) over cells of N(0, 5).
    """

    name: Literal["regression"] = "regression"
    dimension: Annotated[int, Field(ge=1, le=16)] = 4
    sigma: Positive = 0.5

    hypothesis = "weight vector"

    @property
    def outcomes(self) -> int:
        return CELLS

    @property
    def features(self) -> int:
        return self.dimension + 2

    def tokens(self, observations: int) -> int:
        return 2 * observations - 1  # the last y is never an input

    def scored(self, observations: int) -> np.ndarray:
        return 2 * np.arange(observations)

    def draw(self, key: Array, own: None, count: int) -> Array:
        return normal(key, (count, self.dimension))

    def emit(self, key: Array, hypothesis: Array, own: None, observations: int) -> Batch:
        drawn = normal(key, (observations, self.dimension + 1))
        x_Pd = drawn[:, :-1]
        y_P = jnp.sum(x_Pd * hypothesis[None], axis=-1) + self.sigma * drawn[:, -1]
        zero_P1 = jnp.zeros((observations, 1))
        query_PF = jnp.concatenate([x_Pd, zero_P1, zero_P1 + 1], axis=1)
        answer_PF = jnp.concatenate([jnp.zeros(x_Pd.shape), y_P[:, None], zero_P1], axis=1)
        inputs = jnp.stack([query_PF, answer_PF], axis=1).reshape(2 * observations, -1)[:-1]
        cell_P = jnp.sum(y_P[:, None] > self._scale(x_Pd)[:, None] * EDGE[None, 1:-1], axis=-1)
        return Batch(inputs, cell_P.astype(jnp.int32), jnp.ones(observations))

    def _split(self, batch: Batch) -> tuple[Array, Array]:
        """x [B, T, d] and y [B, T] of the inputs, with 0 for the last y, which is not an input."""
        x_BTd, y_BT = batch.inputs[:, 0::2, : self.dimension], batch.inputs[:, 1::2, self.dimension]
        return x_BTd, jnp.pad(y_BT, ((0, 0), (0, 1)))

    def _scale(self, x: Array) -> Array:
        """√(|x|² + σ²), the standard deviation of y before any pair is seen."""
        return jnp.sqrt(jnp.sum(jnp.square(x), axis=-1) + jnp.square(self.sigma))

    def _log_cells(self, mean: Array, variance: Array, x: Array) -> Array:
        """[…, V]: log-mass of the cells at x under N(mean, variance · σ²)."""
        return log_cells(mean, self.sigma * jnp.sqrt(variance), self._scale(x))

    def _means(self, hypotheses: Array, x_BPd: Array) -> Array:
        """[B, P, H]: w·x, not as a matrix product, which a GPU would compute in reduced precision."""
        return jnp.sum(x_BPd[:, :, None] * hypotheses[None, None], axis=-1)

    def log_channel(self, hypotheses: Array, batch: Batch, at: Array) -> Array:
        x_BPd = self._split(batch)[0][:, at]
        mean_BPH = self._means(hypotheses, x_BPd)
        return self._log_cells(mean_BPH, jnp.ones(mean_BPH.shape), x_BPd[:, :, None])

    def log_seen(self, hypotheses: Array, batch: Batch) -> Array:
        """[B, T, H]: log-density of each y: log N(y; w·x, σ²)."""
        x_BTd, y_BT = self._split(batch)
        error_BTH = (y_BT[:, :, None] - self._means(hypotheses, x_BTd)) / self.sigma
        return -0.5 * jnp.square(error_BTH) - jnp.log(self.sigma) - 0.5 * math.log(2 * math.pi)

    def law(self, observations: int) -> Law:
        return Law("smooth", float(self.dimension), "parameters")

    def log_exact(self, own: None, batch: Batch, at: Array) -> Array:
        x_BTd, y_BT = self._split(batch)

        def step(belief: Belief, pair: tuple[Array, Array]) -> tuple[Belief, tuple[Array, Array]]:
            belief, mean_B, variance_B = absorb(belief, *pair)
            return belief, (mean_B, variance_B)

        start = nothing_seen(self.dimension, self.sigma, y_BT.shape[:1])
        _, moments_TB = jax.lax.scan(step, start, (jnp.moveaxis(x_BTd, 1, 0), y_BT.T))
        mean_BP, variance_BP = (moment_TB.T[:, at] for moment_TB in moments_TB)
        return self._log_cells(mean_BP, variance_BP, x_BTd[:, at])

    def baselines(self, tables: FiniteTables, batch: Batch, at: Array, horizon: int) -> dict[str, Array]:
        """`last-w` is ridge regression on the last w pairs. Order is nothing to it, so one pass back has every w."""
        if self.pool is not None:
            return super().baselines(tables, batch, at, horizon)
        x_BTd, y_BT = self._split(batch)
        x_BPd = x_BTd[:, at]

        def step(belief: Belief, lag: Array) -> tuple[Belief, tuple[Array, Array]]:
            pair_P, before_P = jnp.maximum(at - lag, 0), at >= lag
            # If there is no such pair, x = 0 carries no information.
            belief, _, _ = absorb(belief, jnp.where(before_P[None, :, None], x_BTd[:, pair_P], 0), y_BT[:, pair_P])
            _, mean_BP, variance_BP = absorb(belief, x_BPd, jnp.zeros(x_BPd.shape[:2]))
            return belief, (mean_BP, variance_BP)

        start = nothing_seen(self.dimension, self.sigma, x_BPd.shape[:2])
        _, (mean_WBP, variance_WBP) = jax.lax.scan(step, start, 1 + jnp.arange(horizon))
        names, sizes = zip(*self.windows(horizon).items(), strict=True)
        last_W = np.asarray(sizes) - 1
        seen_WBPV = self._log_cells(mean_WBP[last_W], variance_WBP[last_W], x_BPd[None])
        seen = {name: seen_WBPV[i] for i, name in enumerate(names)}
        return {"prior": uniform_log_predictive(x_BPd.shape[0], at, CELLS), **seen}


class Belief(NamedTuple):
    """The posterior of w, as a factored precision: σ² Σ⁻¹ = RᵀDR with unit upper triangular R, and R μ = θ.

    Each field is a list over the d rows, with an array over examples for each number: XLA compiles this to one loop.
    """

    D: list[Array]
    R: list[list[Array]]  # row i: the entries to the right of the diagonal
    theta: list[Array]


def nothing_seen(dimension: int, sigma: Array | float, shape: tuple[int, ...]) -> Belief:
    zero = jnp.zeros(shape)
    rows = range(dimension)
    return Belief(
        [zero + jnp.square(sigma) for _ in rows], [[zero] * (dimension - 1 - i) for i in rows], [zero] * dimension
    )


def absorb(belief: Belief, x: Array, y: Array) -> tuple[Belief, Array, Array]:
    """Add pairs x [..., d], y [...]; also return the mean and the variance/σ² that the belief gave to y before.

    Gentleman's Givens rotations without square roots (1973). The new pair has the weight p, 1 at first; for each row

        D' = D + p x_i²,   s = p x_i / D',   p' = p D / D',   x_k' = x_k − x_i R_ik,   R_ik' = R_ik + s x_k',

    and the same for y and θ. No positive number is computed by subtraction, so float32 is accurate for any σ and any
    length, where XᵀX would lose σ². The rotations subtract x·μ from y, and the final p is σ² / (xᵀΣx + σ²).
    """
    x_d = [x[..., i] for i in range(len(belief.D))]
    mean, weight = jnp.zeros(y.shape), jnp.ones(y.shape)
    updated = Belief([], [], [])
    for D, R, theta in zip(*belief, strict=True):
        first, *rest = x_d
        larger = D + weight * first * first
        gain = weight * first / larger
        weight = weight * (D / larger)
        mean = mean + first * theta
        x_d = [x_k - first * R_k for x_k, R_k in zip(rest, R, strict=True)]
        updated.D.append(larger)
        updated.R.append([R_k + gain * x_k for x_k, R_k in zip(x_d, R, strict=True)])
        updated.theta.append(theta + gain * (y - mean))
    return updated, mean, 1 / weight


def log_cells(mean: Array, deviation: Array, scale: Array) -> Array:
    """[…, V]: log P(cell) under N(mean, deviation²), for the cells that are equiprobable under N(0, scale²).

    Differences of the tail Φ(−|z|) on the cell's side of the mean, in log space, so that far cells do not underflow.
    """
    z = (scale[..., None] * EDGE.reshape(*[1] * scale.ndim, -1) - mean[..., None]) / deviation[..., None]
    tail = log_ndtr(-jnp.abs(z))
    left, right = tail[..., :-1], tail[..., 1:]
    inner, outer = jnp.maximum(left, right), jnp.minimum(left, right)
    one_side = inner + jnp.log(-jnp.expm1(outer - inner))
    has_mean = (z[..., :-1] <= 0) & (z[..., 1:] > 0)
    return jnp.where(has_mean, jnp.log1p(-jnp.exp(left) - jnp.exp(right)), one_side)


def normal(key: Array, shape: tuple[int, ...]) -> Array:
    """Draws from N(0, 1), from 23 random bits in either precision, so that a pool is the same in both."""
    level = uniform(key, shape, jnp.float32).astype(jnp.result_type(float))
    return math.sqrt(2) * jax.lax.erf_inv(2 * level - (1 - 2**-23))

"""`regression`, beyond what `verify` proves."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from windtunnel.spec import arrays
from windtunnel.tunnels import Batch, Regression
from windtunnel.tunnels.regression import CELLS, absorb, log_cells, nothing_seen

POOL = 5


def pairs(tunnel, batch):
    """x [B, T, d] and the y [B, T − 1] that are inputs, as numpy."""
    inputs = np.asarray(batch.inputs)
    return inputs[:, 0::2, : tunnel.dimension], inputs[:, 1::2, tunnel.dimension]


def cells(mean, deviation, x, sigma):
    """[V]: masses of N(mean, deviation²) between the quantiles of N(0, |x|² + σ²), by scipy."""
    edges = stats.norm.ppf(np.arange(CELLS + 1) / CELLS, scale=np.sqrt(x @ x + sigma**2))
    return np.diff(stats.norm.cdf(edges, mean, deviation))


def ridge(x, y, query, sigma):
    """Mean and standard deviation of y at the query, by a matrix inverse."""
    covariance = np.linalg.inv(np.eye(len(query)) + x.T @ x / sigma**2)
    return query @ covariance @ x.T @ y / sigma**2, np.sqrt(query @ covariance @ query + sigma**2)


@partial(jax.jit, static_argnums=(1, 2, 3))
def sample(tunnel, seed, batch, observations):
    return tunnel.sample(jax.random.key(seed), tunnel.prepare(observations), batch, observations)


@jax.jit
def answers(tunnel, batch, at):
    tables = tunnel.prepare(batch.outcome_BP.shape[1])
    log_ps = tunnel.log_predictive(tables, batch, at), tunnel.log_full_predictive(tables, batch, at)
    return *log_ps, tunnel.baselines(tables, batch, at, 8)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("sigma", [0.5, 0.01])
def test_ridge_and_its_windows_by_a_matrix_inverse(sigma):
    tunnel = Regression(sigma=sigma)
    batch = sample(arrays(tunnel), 0, 2, 24)
    x, y = pairs(tunnel, batch)
    at = [0, 1, 3, 4, 9, 23]
    predictive, _, baselines = answers(arrays(tunnel), batch, jnp.asarray(at))
    for b in range(2):
        for p, t in enumerate(at):
            for log_p, w in [(predictive, t), *((baselines[name], w) for name, w in Regression().windows(8).items())]:
                first = max(0, t - w)
                expected = cells(*ridge(x[b, first:t], y[b, first:t], x[b, t], sigma), x[b, t], sigma)
                np.testing.assert_allclose(np.exp(log_p[b, p]), expected, atol=1e-10)
    np.testing.assert_allclose(np.exp(baselines["prior"]), 1 / CELLS, rtol=1e-12)
    np.testing.assert_allclose(np.exp(predictive[:, 0]), 1 / CELLS, rtol=1e-12)  # nothing is known yet


@pytest.mark.usefixtures("x64")
def test_the_chain_rule_of_densities():
    """Σ_t log p(y_t | past) = log N(y; 0, X Xᵀ + σ² I): the evidence is y itself, not its cell."""
    tunnel = Regression()
    x, y = (a[0] for a in pairs(tunnel, sample(arrays(tunnel), 0, 2, 24)))
    belief, chain, add = nothing_seen(4, tunnel.sigma, ()), 0.0, jax.jit(absorb)
    for x_d, y_1 in zip(x[:-1], y, strict=True):
        belief, mean, variance = add(belief, x_d, y_1)
        chain += stats.norm.logpdf(y_1, mean, tunnel.sigma * np.sqrt(variance))
    covariance = x[:-1] @ x[:-1].T + tunnel.sigma**2 * np.eye(23)
    assert chain == pytest.approx(stats.multivariate_normal(np.zeros(23), covariance).logpdf(y), abs=1e-10)


@pytest.mark.usefixtures("x64")
def test_a_pool_weighs_its_members_by_the_density_of_y():
    tunnel = Regression(pool=POOL, sigma=1.5)
    tables = tunnel.prepare(6)
    batch = sample(arrays(tunnel), 2, 1, 6)
    posterior = np.exp(jax.jit(tunnel.log_posterior)(tables, batch, jnp.arange(6)))[0]
    predictive, full = (log_p[0] for log_p in answers(arrays(tunnel), batch, jnp.arange(6))[:2])
    x, y = (a[0] for a in pairs(tunnel, batch))
    mean = x @ np.asarray(tables.pool).T
    for t in range(6):
        density = stats.norm.pdf(y[:t, None], mean[:t], 1.5).prod(0)
        np.testing.assert_allclose(posterior[t], density / density.sum(), atol=1e-12)
        expected = sum(p * cells(m, 1.5, x[t], 1.5) for p, m in zip(posterior[t], mean[t], strict=True))
        np.testing.assert_allclose(np.exp(predictive[t]), expected, atol=1e-12)
        np.testing.assert_allclose(np.exp(full[t]), cells(*ridge(x[:t], y[:t], x[t], 1.5), x[t], 1.5), atol=1e-10)


def test_a_pool_is_the_same_in_either_precision():
    tunnel = Regression(pool=POOL, pool_seed=3)
    narrow = tunnel.prepare(1).pool
    with jax.enable_x64(True):
        wide = tunnel.prepare(1).pool
    assert wide.dtype == np.float64
    np.testing.assert_allclose(narrow, wide, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_the_example_of_the_docstring():
    tunnel = Regression(dimension=1, sigma=1.0)
    batch = Batch(jnp.asarray([[[1.0, 0, 1], [0, 2, 0], [2, 0, 1]]]), jnp.zeros((1, 2), int), jnp.ones((1, 2)))
    predictive = np.exp(answers(arrays(tunnel), batch, jnp.arange(2))[0])[0]
    np.testing.assert_allclose(predictive[1], cells(2, np.sqrt(3), np.asarray([2.0]), 1), atol=1e-12)


def test_cells_far_from_the_mean_keep_their_mass_in_float32():
    """Against float64 on the side where nothing cancels; the farthest cell is 60 standard deviations away."""
    for mean in (-20.0, 0.0, 7.0):
        log_mass = np.asarray(jax.jit(log_cells)(jnp.float32(mean), jnp.float32(0.5), jnp.float32(4.0)), float)
        z = (stats.norm.ppf(np.arange(CELLS + 1) / CELLS, scale=4) - mean) / 0.5
        a, b = np.where(z[:-1] > 0, -z[1:], z[:-1]), np.where(z[:-1] > 0, -z[:-1], z[1:])
        expected = special.log_ndtr(b) + np.log(-np.expm1(special.log_ndtr(a) - special.log_ndtr(b)))
        np.testing.assert_allclose(log_mass, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.5, 0.01])
def test_float32_bears_little_noise_and_32000_observations(sigma):
    """XᵀX would lose σ² = 1e-4 beside 1, and a running sum of 32,000 squares the last digits of every window."""
    at = np.asarray([0, 1, 4, 7, 8, 24, 1000, 31_998, 31_999])
    tunnel = Regression(dimension=4, sigma=sigma, pool=1)  # the pool's reasoner knows w: that is the limit
    rough = arrays(tunnel)
    batch = sample(rough, 4, 1, 32_000)
    narrow = jax.tree.map(lambda leaf: np.asarray(leaf, float), answers(rough, batch, jnp.asarray(at)))
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        exact = arrays(tunnel)
        same = Batch(np.asarray(batch.inputs, float), np.asarray(batch.outcome_BP), np.ones((1, 32_000)))
        wide = jax.tree.map(np.asarray, answers(exact, same, jnp.asarray(at)))
    for p, q in zip(jax.tree.leaves(wide), jax.tree.leaves(narrow), strict=True):
        assert np.isfinite(q).all()
        np.testing.assert_allclose(np.exp(q).sum(-1), 1, atol=1e-6)
        assert (np.exp(p) * (p - q)).sum(-1).max() < 1e-5
    knows_w, learns_w = (log_p[0, -2:] for log_p in wide[:2])
    excess = (np.exp(knows_w) * (knows_w - learns_w)).sum(-1)  # about d / 2n nats
    assert (excess < 20 * 4 / (2 * 32_000)).all() and (excess >= 0).all()

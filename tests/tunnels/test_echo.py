"""`echo`, beyond what `verify` proves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel.priors import GeneralizedGaussian, Uniform
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch, Echo

pytestmark = pytest.mark.usefixtures("x64")


def test_the_example_of_the_docstring():
    tunnel = Echo(symbols=2, noise=0.2, prior=Uniform())
    batch = Batch(jnp.asarray([[2, 0, 1, 1]]), jnp.asarray([[0, 1, 1, 0]]), jnp.ones((1, 4)))
    p = np.exp(jax.jit(lambda tunnel: tunnel.log_predictive((), batch, jnp.arange(4)))(arrays(tunnel)))
    np.testing.assert_allclose(p[0, [0, 3], 1], [0.5, 0.1 + 0.8 * 2 / 3])


def test_a_symbol_comes_back_as_often_as_the_prior_says():
    """Of a hundred symbols hardly two are alike, so that each shows which it repeats; for a few the lag is far."""
    tunnel = Echo(symbols=100, noise=0.5, prior=GeneralizedGaussian(scale=2.0, beta=1.0))

    @jax.jit
    def last(tunnel):
        batch = tunnel.sample(jax.random.key(0), (), 4000, 12)
        return batch.outcome_BP, tunnel.log_predictive((), batch, jnp.asarray([11]))

    symbol, log_p = map(np.asarray, last(arrays(tunnel)))
    assert (symbol[:, 1] == symbol[:, 0]).mean() == pytest.approx(0.505, abs=0.04)
    lag = np.exp(-np.arange(11) / 2)
    expected = 0.5 * lag / lag.sum()
    for back in (0, 3):
        repeated = symbol[:, 10 - back]
        distinct = (symbol[:, :11] == repeated[:, None]).sum(1) == 1
        share = np.exp(log_p[distinct, 0, repeated[distinct]])
        np.testing.assert_allclose(share, 0.005 + expected[back])
        error = np.sqrt(share[0] * (1 - share[0]) / distinct.sum())
        assert abs((symbol[distinct, 11] == repeated[distinct]).mean() - share[0]) < 5 * error


def test_far_lags_stay_finite():
    tunnel = arrays(Echo(noise=0.0, symbols=3, prior=GeneralizedGaussian(scale=3.0, beta=2.0)))

    @jax.jit
    def late(tunnel):
        batch = tunnel.sample(jax.random.key(0), (), 1, 3000)
        symbol_B1 = batch.outcome_BP[:, -1:]
        return jnp.take_along_axis(tunnel.log_predictive((), batch, jnp.asarray([2999]))[:, 0], symbol_B1, axis=1)

    assert np.isfinite(late(tunnel)).all()

"""`recall`, beyond what `verify` proves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel.priors import Gaussian, GeneralizedGaussian, Uniform
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch, Recall, recall

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("prior", [Uniform(), Gaussian(scale=2.0), GeneralizedGaussian(scale=1.5, beta=0.5)])
def test_lags_follow_the_prior(prior):
    """Without noise and with long keys the cue names its pair: chi-square of the lags, level one in a million."""
    from scipy.stats import chi2

    @jax.jit
    def pairs(tunnel):
        batch = tunnel.sample(jax.random.key(0), (), 4000, 10)
        return jnp.argmax(tunnel.log_posterior((), batch, jnp.arange(10)), axis=-1)

    source = np.asarray(pairs(arrays(Recall(bits=24, symbols=2, noise=0.0, prior=prior))))
    for t in (1, 4, 9):
        lags = np.bincount(t - source[:, t], minlength=t + 1)
        expected = np.exp([float(prior.log_density(jnp.asarray(float(d)))) for d in range(t + 1)])
        expected *= len(source) / expected.sum()
        assert ((lags - expected) ** 2 / expected).sum() < chi2.isf(1e-6, t)


def test_a_million_and_more_hypotheses_and_far_lags_stay_finite():
    """A short-tailed prior underflows in linear space long before lag 3,000; log space does not notice."""
    tunnel = arrays(Recall(bits=20, symbols=4, noise=0.2, prior=Gaussian(scale=3.0)))
    assert Recall(bits=20).hypotheses == 1_048_576

    @jax.jit
    def late(tunnel):
        at = jnp.asarray([2998, 2999])
        batch = tunnel.sample(jax.random.key(0), (), 1, 3000)
        log_ps = tunnel.baselines((), batch, at, 64)["position-only"], tunnel.log_predictive((), batch, at)
        return [jnp.isfinite(log_p).all() for log_p in log_ps]

    assert all(late(tunnel))


def test_the_example_of_the_docstring():
    """Keys ++ then +−, no noise, cue ++ at t = 2: the value of the first pair."""
    tunnel = Recall(bits=2, symbols=3, noise=0.0)
    first = [1, 1, 0, 0, 1, 1, 1]  # key ++, value 2, cue ++
    second = [1, -1, 1, 0, 0, 1, 1]  # key +−, value 0, cue ++
    batch = Batch(jnp.asarray([[first, second]], float), jnp.asarray([[2, 2]]), jnp.ones((1, 2)))
    log_p = jax.jit(lambda: arrays(tunnel).log_predictive((), batch, jnp.arange(2)))()
    np.testing.assert_array_equal(np.exp(log_p[0]), [[0, 0, 1], [0, 0, 1]])


def test_a_few_positions_at_a_time_are_as_all_at_once(monkeypatch):
    tunnel, at = arrays(Recall(bits=4, symbols=3, prior=Gaussian(scale=3.0))), jnp.asarray([0, 3, 4, 18, 29])
    batch = jax.jit(lambda: tunnel.sample(jax.random.key(0), (), 2, 30))()

    def answers():
        """Traced anew."""
        return jax.jit(lambda: {"exact": tunnel.log_predictive((), batch, at), **tunnel.baselines((), batch, at, 4)})()

    whole = answers()
    monkeypatch.setattr(recall, "BLOCK", 120)  # two positions
    for name, log_p in answers().items():
        np.testing.assert_allclose(log_p, whole[name], atol=1e-12, err_msg=name)


@pytest.mark.slow
def test_memory_is_linear_in_the_observations():
    def temporary(observations):
        def judge(tunnel):
            at = jnp.arange(0, observations, observations // 128)
            batch = tunnel.sample(jax.random.key(0), (), 1, observations)
            return tunnel.log_predictive((), batch, at), tunnel.baselines((), batch, at, 8)

        program = jax.jit(judge).lower(arrays(Recall(bits=4, symbols=3))).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert temporary(65536) < 2.3 * temporary(32768)

"""Every tunnel's exact answers against plain loops over everything that could have happened, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tunnels import brute
from windtunnel.priors import Gaussian, GeneralizedGaussian, Uniform
from windtunnel.tunnels import Bijection, Recall
from windtunnel.tunnels.base import windows

pytestmark = pytest.mark.usefixtures("x64")

PRIORS = [Uniform(), Gaussian(scale=2.0), GeneralizedGaussian(scale=1.5, beta=0.5)]
RECALLS = [
    *(Recall(bits=2, symbols=3, noise=0.1, prior=prior) for prior in PRIORS),
    Recall(bits=1, symbols=2, noise=0.25, prior=PRIORS[2]),  # two keys for all pairs: collisions everywhere
    Recall(bits=3, symbols=2, noise=0.0, prior=PRIORS[2]),
    Recall(bits=2, symbols=2, noise=0.5, prior=PRIORS[1]),
]
CASES = [(tunnel, brute.Recall, 5) for tunnel in RECALLS] + [(Bijection(symbols=v), brute.Bijection, v) for v in (3, 4)]
IDS = [f"{tunnel.name}-{i}" for i, (tunnel, _, _) in enumerate(CASES)]
FINE = {"atol": 1e-12, "rtol": 1e-10}


def drawn(tunnel, observations, batch=3, seed=0):
    tables = tunnel.prepare()
    return tables, tunnel.sample(jax.random.key(seed), tables, batch, observations), jnp.arange(observations)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_predictive_and_posterior_equal_enumeration(case):
    tunnel, Brute, observations = case
    for seed in range(3):
        tables, batch, at = drawn(tunnel, observations, seed=seed)
        predictive = np.exp(tunnel.log_predictive(tables, batch, at))
        posterior = np.exp(tunnel.log_posterior(tables, batch, at))
        for b, inputs in enumerate(np.asarray(batch.inputs)):
            brute_force = Brute(tunnel, inputs)
            for t in range(observations):
                np.testing.assert_allclose(predictive[b, t], brute_force.predictive(t), **FINE)
                np.testing.assert_allclose(posterior[b, t], brute_force.posterior(t), **FINE)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_last_w_marginalises_what_it_does_not_see(case):
    tunnel, Brute, observations = case
    observations = min(observations, 4)
    tables, batch, at = drawn(tunnel, observations, batch=2)
    baselines = tunnel.baselines(tables, batch, at, 3)
    for name, w in windows(3).items():
        for b, inputs in enumerate(np.asarray(batch.inputs)):
            for t in range(observations):
                expected = Brute(tunnel, inputs).last(t, w)
                np.testing.assert_allclose(np.exp(baselines[name][b, t]), expected, **FINE)
    np.testing.assert_allclose(np.exp(baselines["prior"]), 1 / tunnel.outcomes, **FINE)


@pytest.mark.parametrize("tunnel", RECALLS)
def test_recall_content_only_and_position_only(tunnel):
    tables, batch, at = drawn(tunnel, 3, batch=2)
    baselines = tunnel.baselines(tables, batch, at, 2)
    for b, inputs in enumerate(np.asarray(batch.inputs)):
        for t in range(3):
            brute_force = brute.Recall(tunnel, inputs)
            np.testing.assert_allclose(np.exp(baselines["content-only"][b, t]), brute_force.content_only(t), **FINE)
            np.testing.assert_allclose(np.exp(baselines["position-only"][b, t]), brute_force.position_only(t), **FINE)


@given(
    bits=st.integers(1, 6),
    symbols=st.integers(2, 9),
    noise=st.floats(0, 0.5),
    prior=st.sampled_from(PRIORS),
    seed=st.integers(0, 2**20),
)
def test_recall_properties_at_any_size(bits, symbols, noise, prior, seed):
    tunnel = Recall(bits=bits, symbols=symbols, noise=noise, prior=prior)
    with jax.disable_jit(False):
        tables, batch, at = drawn(tunnel, 6, batch=2, seed=seed)
        check_properties(tunnel, tables, batch, at)
    value_BTV = batch.inputs[..., bits : bits + symbols]
    mixture = np.einsum("bpt,btv->bpv", np.exp(tunnel.log_posterior(tables, batch, at)), value_BTV)
    np.testing.assert_allclose(np.exp(tunnel.log_predictive(tables, batch, at)), mixture, **FINE)


@given(symbols=st.integers(2, 30), seed=st.integers(0, 2**20))
def test_bijection_properties_at_any_size(symbols, seed):
    tunnel = Bijection(symbols=symbols)
    tables, batch, at = drawn(tunnel, symbols, batch=2, seed=seed)
    check_properties(tunnel, tables, batch, at)
    predictive = np.exp(tunnel.log_predictive(tables, batch, at))
    entropy = -np.sum(np.where(predictive > 0, predictive * np.log2(np.maximum(predictive, 1e-99)), 0), axis=-1)
    np.testing.assert_allclose(entropy, np.broadcast_to(np.log2(symbols - np.arange(symbols)), entropy.shape), atol=1e-9)


def check_properties(tunnel, tables, batch, at):
    """Sums to one, the drawn outcome is possible, and every baseline leaves possible what is possible."""
    log_p = np.asarray(tunnel.log_predictive(tables, batch, at))
    np.testing.assert_allclose(np.exp(log_p).sum(-1), 1, **FINE)
    drawn_log_p = np.take_along_axis(log_p, np.asarray(batch.outcome_BP)[..., None], axis=-1)
    assert np.isfinite(drawn_log_p).all()
    for name, log_b in tunnel.baselines(tables, batch, at, 4).items():
        np.testing.assert_allclose(np.exp(log_b).sum(-1), 1, **FINE, err_msg=name)
        assert not (np.isneginf(log_b) & np.isfinite(log_p)).any(), name


@pytest.mark.parametrize("tunnel", [Bijection(symbols=6), RECALLS[0], RECALLS[3], Recall()])
def test_outcomes_are_drawn_from_the_predictive(tunnel):
    """Surprisal minus entropy has mean zero; at the 5 SE level (one in a million)."""
    observations = tunnel.capacity or 12
    tables, batch, at = drawn(tunnel, observations, batch=2000)
    log_p = np.asarray(tunnel.log_predictive(tables, batch, at))
    p = np.exp(log_p)
    entropy = -np.where(p > 0, p * np.where(p > 0, log_p, 0), 0).sum(-1)
    surprisal = -np.take_along_axis(log_p, np.asarray(batch.outcome_BP)[..., None], axis=-1)[..., 0]
    excess = (surprisal - entropy).mean(1)
    assert abs(excess.mean()) < 5 * excess.std() / np.sqrt(len(excess)) + 1e-12


@pytest.mark.parametrize("prior", PRIORS)
def test_recall_lags_follow_the_prior(prior):
    """Without noise and with long keys the cue names its pair: chi-square of the lags, level one in a million."""
    from scipy.stats import chi2

    tunnel = Recall(bits=24, symbols=2, noise=0.0, prior=prior)
    tables, batch, at = drawn(tunnel, 10, batch=4000)
    source = np.argmax(tunnel.log_posterior(tables, batch, at), axis=-1)
    for t in (1, 4, 9):
        lags = np.bincount(t - source[:, t], minlength=t + 1)
        expected = np.exp([float(prior.log_density(jnp.asarray(float(d)))) for d in range(t + 1)])
        expected *= len(source) / expected.sum()
        assert ((lags - expected) ** 2 / expected).sum() < chi2.isf(1e-6, t)


@pytest.mark.parametrize("tunnel", [Bijection(symbols=9), RECALLS[2], Recall()])
def test_kl_of_last_w_falls_with_w(tunnel):
    observations = tunnel.capacity or 40
    tables, batch, at = drawn(tunnel, observations, batch=64)
    log_p = np.asarray(tunnel.log_predictive(tables, batch, at))
    p = np.exp(log_p)
    gaps = []
    for name, log_b in tunnel.baselines(tables, batch, at, observations).items():
        if name == "prior" or name.startswith("last"):
            with np.errstate(invalid="ignore"):
                gaps.append(np.where(p > 0, p * (log_p - np.asarray(log_b)), 0).sum(-1).mean())
    assert all(after <= before + 1e-12 for before, after in zip(gaps, gaps[1:], strict=False)), gaps
    assert gaps[-1] < 1e-12, "the last horizon is all there is"


def test_a_million_and_more_hypotheses_and_far_lags_stay_finite():
    """A short-tailed prior underflows in linear space long before lag 3,000; log space does not notice."""
    tunnel = Recall(bits=20, symbols=4, noise=0.2, prior=Gaussian(scale=3.0))
    tables, batch, _ = drawn(tunnel, 3000, batch=1)
    at = jnp.asarray([2998, 2999])
    baselines = tunnel.baselines(tables, batch, at, 64)
    assert np.isfinite(baselines["position-only"]).all() and np.isfinite(tunnel.log_predictive(tables, batch, at)).all()


def test_float32_agrees_with_float64():
    tunnel = Recall()
    tables, batch, at = drawn(tunnel, 64)
    exact = np.exp(tunnel.log_predictive(tables, batch, at))
    with jax.enable_x64(False):
        narrow = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype.name.replace("64", "32")), batch)
        rough = np.exp(tunnel.log_predictive(tables, narrow, jnp.arange(64)))
    assert np.abs(exact - rough).max() < 1e-5

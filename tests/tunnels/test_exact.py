"""Every tunnel's exact answers against plain loops over everything that could have happened, in float64."""

import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tunnels import brute
from windtunnel.priors import Gaussian, GeneralizedGaussian, Uniform
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch, Bijection, Recall
from windtunnel.tunnels.base import windows

pytestmark = pytest.mark.usefixtures("x64")

PRIORS = [Uniform(), Gaussian(scale=2.0), GeneralizedGaussian(scale=1.5, beta=0.5)]
RECALLS = [
    *(Recall(bits=2, symbols=3, noise=0.1, prior=prior) for prior in PRIORS),
    Recall(bits=2, symbols=3, noise=0.0, prior=PRIORS[2]),
    Recall(bits=2, symbols=3, noise=0.5, prior=PRIORS[1]),
    Recall(bits=1, symbols=2, noise=0.25, prior=PRIORS[2]),  # two keys for all pairs: collisions everywhere
]
CASES = [(tunnel, brute.Recall) for tunnel in RECALLS] + [(Bijection(symbols=v), brute.Bijection) for v in (3, 4)]
IDS = [f"{tunnel.name}-{i}" for i, (tunnel, _) in enumerate(CASES)]
FINE = {"atol": 1e-12, "rtol": 1e-10}
OBSERVATIONS = 5


class Answers(NamedTuple):
    """All that a tunnel says of its own sequences."""

    inputs: Any
    outcome: Any
    predictive: Any  # probabilities, as the rest
    posterior: Any
    baselines: Any


def answers(tunnel, batch=3, observations=OBSERVATIONS, horizon=3, seed=0, posterior=True) -> Answers:
    """Compiled once for each structure: noise, scale and shape are numbers that the program takes."""
    observations = min(observations, tunnel.capacity or observations)
    return jax.tree.map(np.asarray, _answers(arrays(tunnel), seed, batch, observations, horizon, posterior))


@partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _answers(tunnel, seed, batch, observations, horizon, posterior):
    tables, at = tunnel.prepare(observations), jnp.arange(observations)
    drawn = tunnel.sample(jax.random.key(seed), tables, batch, observations)
    said = (
        tunnel.log_predictive(tables, drawn, at),
        tunnel.log_posterior(tables, drawn, at) if posterior else None,
        tunnel.baselines(tables, drawn, at, horizon),
    )
    return Answers(drawn.inputs, drawn.outcome_BP, *jax.tree.map(jnp.exp, said))


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_predictive_and_posterior_equal_enumeration(case):
    tunnel, Brute = case
    for seed in range(3):
        said = answers(tunnel, seed=seed)
        for b, inputs in enumerate(said.inputs):
            brute_force = Brute(tunnel, inputs)
            for t in range(said.predictive.shape[1]):
                np.testing.assert_allclose(said.predictive[b, t], brute_force.predictive(t), **FINE)
                np.testing.assert_allclose(said.posterior[b, t], brute_force.posterior(t), **FINE)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_last_w_marginalises_what_it_does_not_see(case):
    tunnel, Brute = case
    said = answers(tunnel)
    for name, w in windows(3).items():
        for b, inputs in enumerate(said.inputs[:2]):
            for t in range(min(4, said.predictive.shape[1])):
                np.testing.assert_allclose(said.baselines[name][b, t], Brute(tunnel, inputs).last(t, w), **FINE)
    np.testing.assert_allclose(said.baselines["prior"], 1 / tunnel.outcomes, **FINE)


@pytest.mark.parametrize("tunnel", RECALLS)
def test_recall_content_only_and_position_only(tunnel):
    said = answers(tunnel)
    for b, inputs in enumerate(said.inputs[:2]):
        for t in range(3):
            brute_force = brute.Recall(tunnel, inputs)
            np.testing.assert_allclose(said.baselines["content-only"][b, t], brute_force.content_only(t), **FINE)
            np.testing.assert_allclose(said.baselines["position-only"][b, t], brute_force.position_only(t), **FINE)


@settings(max_examples=30)
@given(
    size=st.sampled_from([(2, 3), (6, 9)]),
    noise=st.floats(0, 0.5),
    scale=st.floats(0.1, 100),
    beta=st.floats(0.1, 4),
    seed=st.integers(0, 2**20),
)
def test_recall_properties_at_any_knobs(size, noise, scale, beta, seed):
    bits, symbols = size
    tunnel = Recall(bits=bits, symbols=symbols, noise=noise, prior=GeneralizedGaussian(scale=scale, beta=beta))
    said = answers(tunnel, seed=seed)
    check_properties(said)
    mixture = np.einsum("bpt,btv->bpv", said.posterior, said.inputs[..., bits : bits + symbols])
    np.testing.assert_allclose(said.predictive, mixture, **FINE)


@pytest.mark.parametrize("symbols", [2, 7, 20])
def test_bijection_properties(symbols):
    for seed in range(10):
        said = answers(Bijection(symbols=symbols), observations=symbols, seed=seed, posterior=False)
        check_properties(said)
        p = said.predictive
        entropy = -np.sum(np.where(p > 0, p * np.log2(np.maximum(p, 1e-99)), 0), axis=-1)
        expected = np.broadcast_to(np.log2(symbols - np.arange(symbols)), entropy.shape)
        np.testing.assert_allclose(entropy, expected, atol=1e-9)


def check_properties(said: Answers):
    """Sums to one, the drawn outcome is possible, and every baseline leaves possible what is possible."""
    np.testing.assert_allclose(said.predictive.sum(-1), 1, **FINE)
    assert (np.take_along_axis(said.predictive, said.outcome[..., None], axis=-1) > 0).all()
    for name, p in said.baselines.items():
        np.testing.assert_allclose(p.sum(-1), 1, **FINE, err_msg=name)
        assert not ((p == 0) & (said.predictive > 1e-300)).any(), name


@pytest.mark.parametrize("tunnel", [Bijection(symbols=7), RECALLS[0], RECALLS[5], Recall()])
def test_outcomes_are_drawn_from_the_predictive(tunnel):
    """Surprisal minus entropy has mean zero; at the 5 SE level (one in a million)."""
    said = answers(tunnel, batch=2000, observations=12, posterior=False)
    p = said.predictive
    log_p = np.log(np.where(p > 0, p, 1))
    entropy = -(p * log_p).sum(-1)
    surprisal = -np.take_along_axis(log_p, said.outcome[..., None], axis=-1)[..., 0]
    excess = (surprisal - entropy).mean(1)
    assert abs(excess.mean()) < 5 * excess.std() / np.sqrt(len(excess)) + 1e-12


@pytest.mark.parametrize("prior", PRIORS)
def test_recall_lags_follow_the_prior(prior):
    """Without noise and with long keys the cue names its pair: chi-square of the lags, level one in a million."""
    from scipy.stats import chi2

    said = answers(Recall(bits=24, symbols=2, noise=0.0, prior=prior), batch=4000, observations=10)
    source = np.argmax(said.posterior, axis=-1)
    for t in (1, 4, 9):
        lags = np.bincount(t - source[:, t], minlength=t + 1)
        expected = np.exp([float(prior.log_density(jnp.asarray(float(d)))) for d in range(t + 1)])
        expected *= len(source) / expected.sum()
        assert ((lags - expected) ** 2 / expected).sum() < chi2.isf(1e-6, t)


@pytest.mark.parametrize("tunnel", [Bijection(symbols=7), RECALLS[3], Recall()])
def test_kl_of_last_w_falls_with_w(tunnel):
    said = answers(tunnel, batch=64, observations=40, horizon=tunnel.capacity or 40, posterior=False)
    p = said.predictive

    def gap(q):
        ratio = np.where(p > 0, p, 1) / np.where(p > 0, q, 1)
        return (p * np.log(ratio)).sum(-1).mean()

    gaps = [gap(said.baselines[name]) for name in ["prior", *windows(tunnel.capacity or 40)]]
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(gaps)), gaps
    assert gaps[-1] < 1e-12, "the last horizon is all there is"


def test_a_million_and_more_hypotheses_and_far_lags_stay_finite():
    """A short-tailed prior underflows in linear space long before lag 3,000; log space does not notice."""
    tunnel = arrays(Recall(bits=20, symbols=4, noise=0.2, prior=Gaussian(scale=3.0)))

    @jax.jit
    def late(tunnel):
        tables, at = tunnel.prepare(3000), jnp.asarray([2998, 2999])
        drawn = tunnel.sample(jax.random.key(0), tables, 1, 3000)
        said = tunnel.baselines(tables, drawn, at, 64)["position-only"], tunnel.log_predictive(tables, drawn, at)
        return [jnp.isfinite(log_p).all() for log_p in said]

    assert all(late(tunnel))


@pytest.mark.parametrize("tunnel", [Recall(), Bijection()])
def test_float32_agrees_with_float64(tunnel):
    said = answers(tunnel, observations=40, posterior=False)
    with jax.enable_x64(False):
        made = arrays(tunnel)
        narrow = jnp.asarray(said.inputs, np.result_type(said.inputs).name.replace("64", "32"))
        batch = Batch(narrow, jnp.asarray(said.outcome), jnp.ones(said.outcome.shape))
        rough = jax.jit(lambda made: made.log_predictive(made.prepare(40), batch, jnp.arange(said.outcome.shape[1])))(
            made
        )
    assert np.abs(said.predictive - np.exp(rough)).max() < 1e-5

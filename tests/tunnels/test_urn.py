"""`urn` against closed forms, integrals and its own long run; `verify` has it against enumeration."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel.priors import Gaussian, GeneralizedGaussian, Uniform
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch, Urn, urn

pytestmark = pytest.mark.usefixtures("x64")

LONG = 32_000


@partial(jax.jit, static_argnums=1)
def odds(tunnel, observations):
    return tunnel.prepare(observations).own.log_odds_TT


def table(tunnel, observations):
    """[n, s]: p(1 | n, s), for s ≤ n < observations."""
    return 1 / (1 + np.exp(-np.asarray(odds(arrays(tunnel), observations))))


def counts(observations):
    return [(n, s) for n in range(observations) for s in range(n + 1)]


def sequence(outcomes):
    """One sequence of these outcomes."""
    outcome_BP = jnp.asarray(outcomes, jnp.int32)[None]
    inputs = jnp.concatenate([jnp.full((1, 1), 2, jnp.int32), outcome_BP[:, :-1]], axis=1)
    return Batch(inputs, outcome_BP, jnp.ones(outcome_BP.shape))


def test_the_example_of_the_docstring():
    p = table(Urn(hypotheses=2, noise=0.0), 2)
    assert [p[0, 0], p[1, 0], p[1, 1]] == pytest.approx([1 / 2, 3 / 8, 5 / 8], abs=1e-12)


@pytest.mark.slow
def test_a_fine_grid_and_no_noise_give_laplaces_rule():
    p = table(Urn(hypotheses=1_000_000, noise=0.0), 64)
    for n, s in counts(64):
        assert p[n, s] == pytest.approx((s + 1) / (n + 2), abs=1e-9)


def test_noise_narrows_the_range_of_biases():
    """q is uniform on [ε, 1−ε]: a ratio of incomplete beta integrals."""
    from scipy.special import beta, betainc

    def integral(a, b):
        return beta(a, b) * (betainc(a, b, 0.8) - betainc(a, b, 0.2))

    p = table(Urn(hypotheses=10_000, noise=0.2), 20)
    for n, s in counts(20):
        assert p[n, s] == pytest.approx(integral(s + 2, n - s + 1) / integral(s + 1, n - s + 1), abs=1e-7)


@pytest.mark.parametrize("hypotheses", [2_000, 20_001])
def test_the_prior_is_over_percent_whatever_the_grid(hypotheses):
    from scipy.integrate import quad

    def integral(a, b):
        return quad(lambda x: x**a * (1 - x) ** b * np.exp(-(((x - 0.5) / 0.1) ** 2)), 0, 1, epsabs=0, epsrel=1e-10)[0]

    p = table(Urn(hypotheses=hypotheses, noise=0.0, prior=Gaussian(scale=10.0)), 12)
    for n, s in counts(12):
        assert p[n, s] == pytest.approx(integral(s + 1, n - s) / integral(s, n - s), abs=1e-6)


@pytest.mark.parametrize("prior", [Uniform(), GeneralizedGaussian(scale=1.0, beta=0.3), Gaussian(scale=0.5)])
@pytest.mark.parametrize("noise", [0.0, 0.5, 0.01])
def test_every_row_of_the_table_is_what_the_hypotheses_say(prior, noise):
    """Few rows are made from them; the others follow by exchangeability, in float32 too."""
    tunnel, observations = Urn(hypotheses=50, noise=noise, prior=prior), urn.TABULATED + 1
    p = table(tunnel, observations)
    with jax.enable_x64(False):
        rough = table(tunnel, observations)
    log_prior_H, channel_HV = (np.asarray(part) for part in (tunnel.support()[1], tunnel._channel(jnp.arange(50))))
    for n in (0, 1, 100, 513, 700, urn.TABULATED):
        s_T1 = np.arange(n + 1)[:, None]
        joint_TH = log_prior_H + s_T1 * np.log(channel_HV[:, 1]) + (n - s_T1) * np.log(channel_HV[:, 0])
        joint_TH = np.exp(joint_TH - joint_TH.max(axis=1, keepdims=True))
        expected_T = joint_TH @ channel_HV[:, 1] / joint_TH.sum(axis=1)
        np.testing.assert_allclose(p[n, : n + 1], expected_T, rtol=1e-9)
        np.testing.assert_allclose(rough[n, : n + 1], expected_T, atol=3e-6)


def test_blocks_on_demand_agree_with_the_table(monkeypatch):
    tunnel = arrays(Urn(hypotheses=997, prior=Gaussian(scale=20.0), pool=5))

    def predictives():
        tables, at = tunnel.prepare(40), jnp.asarray([0, 1, 5, 17, 39])
        batch = tunnel.sample(jax.random.key(0), tables, 3, 40)
        exact = [judge(tables, batch, at) for judge in (tunnel.log_predictive, tunnel.log_full_predictive)]
        return exact, [tunnel.log_last(tables, batch, at, w) for w in (2, 20)]

    tabulated = jax.jit(predictives)()
    monkeypatch.setattr(urn, "TABULATED", 2)
    monkeypatch.setattr(urn, "BLOCK", 1500)  # blocks of 100 hypotheses, the last one short
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-10), jax.jit(lambda: predictives())(), tabulated)


def test_last_w_counts_its_window():
    outcome = np.random.default_rng(0).integers(0, 2, 300)
    tunnel, at = Urn(hypotheses=30), np.asarray([0, 1, 7, 64, 65, 299])
    log_p = jax.jit(lambda batch: tunnel.baselines(tunnel.prepare(300), batch, jnp.asarray(at), 64))(sequence(outcome))
    p = table(tunnel, 300)
    for name, w in {"prior": 0, **Urn().windows(64)}.items():
        for i, t in enumerate(at):
            seen = outcome[max(0, t - w) : t]
            assert np.exp(log_p[name][0, i, 1]) == pytest.approx(p[len(seen), seen.sum()], abs=1e-12), name


@pytest.mark.slow
@pytest.mark.parametrize("double", [True, False])
def test_after_32_000_draws_the_bias_is_known(double):
    """What has collapsed is the channel; what has not, because the grid is fine, follows Laplace's rule."""
    with jax.enable_x64(double):
        coarse, fine = arrays(Urn(hypotheses=5, noise=0.3)), arrays(Urn(hypotheses=100_000, noise=0.0))
        at = jnp.asarray([0, 1000, 5000, LONG - 1])

        @jax.jit
        def late(tunnel, batch):
            tables = tunnel.prepare(LONG)
            return tunnel.log_predictive(tables, batch, at), tunnel.log_last(tables, batch, at, 2000)

        for h in (0, 2, 4):
            q = (h + 0.5) / 5 * 0.4 + 0.3
            batch = sequence(np.random.default_rng(h).random(LONG) < q)
            for log_p in late(coarse, batch):
                np.testing.assert_allclose(np.exp(log_p).sum(-1), 1, atol=1e-6)
                assert np.exp(log_p[0, -1, 1]) == pytest.approx(q, abs=1e-6)
        for q in (0.0, 0.003, 0.7, 1.0):
            batch = sequence(np.random.default_rng(1).random(LONG) < q)
            outcome = np.asarray(batch.outcome_BP[0])
            seen_PV = np.asarray([[(outcome[:t] == v).sum() for v in (0, 1)] for t in at])
            laplace_PV = (seen_PV + 1) / (seen_PV.sum(-1, keepdims=True) + 2)
            np.testing.assert_allclose(np.exp(late(fine, batch)[0])[0], laplace_PV, rtol=0.02, atol=1e-6)


def test_order_does_not_matter_and_the_start_is_no_draw():
    outcome = np.asarray([1, 1, 0, 1, 0, 0, 1, 0])
    tunnel = Urn(hypotheses=10)
    last = jax.jit(lambda batch: tunnel.log_predictive(tunnel.prepare(8), batch, jnp.asarray([7])))
    np.testing.assert_array_equal(last(sequence(outcome)), last(sequence(np.roll(outcome[::-1], -1))))
    assert np.exp(last(sequence(outcome))[0, 0, 1]) == pytest.approx(table(tunnel, 8)[7, 4])


def test_a_hypothesis_is_drawn_as_often_as_its_prior_says():
    """Chi-square over a hundred cells of a million hypotheses, level one in a million."""
    from scipy.stats import chi2

    tunnel = Urn(hypotheses=1_000_000, prior=Gaussian(scale=30.0))
    own = jax.jit(lambda: tunnel.tabulate(1))()
    drawn = np.bincount(np.asarray(tunnel.draw(jax.random.key(0), own, 200_000)) // 10_000, minlength=100)
    theta = (np.arange(1_000_000) + 0.5) / 1_000_000
    expected = np.exp(-(((theta - 0.5) / 0.3) ** 2)).reshape(100, -1).sum(1)
    expected *= drawn.sum() / expected.sum()
    assert ((drawn - expected) ** 2 / expected).sum() < chi2.isf(1e-6, 99)

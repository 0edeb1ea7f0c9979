"""`bandit` against closed forms and adaptive quadrature; `verify` has it against enumeration."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel.tunnels import Bandit, Batch
from windtunnel.verify.brute.bandit import Bandit as Brute

pytestmark = pytest.mark.usefixtures("x64")

LONG = 256  # pulls: the most that there can be


@partial(jax.jit, static_argnums=(0, 1))
def best(tunnel, observations, pulls):
    return tunnel.log_best(tunnel.prepare(observations), pulls)


def probabilities(arms, observations, *seen):
    """[case, K]: P(arm is best) for each case of (failures, rewards) by arm."""
    return np.exp(np.asarray(best(Bandit(arms=arms), observations, jnp.asarray(seen, jnp.int32)[:, None])))[:, 0]


def integral(seen):
    """The same by adaptive quadrature over scipy's Beta distributions."""
    from scipy.integrate import quad
    from scipy.stats import beta

    arms = [beta(1 + rewards, 1 + failures) for failures, rewards in seen]

    def density(x, i):
        return arms[i].pdf(x) * np.prod([arm.cdf(x) for arm in arms if arm is not arms[i]])

    return [quad(density, 0, 1, args=(i,), epsabs=1e-11, points=[arms[i].mean()])[0] for i in range(len(arms))]


def test_the_example_of_the_docstring():
    assert probabilities(2, 2, [[0, 1], [0, 0]])[0] == pytest.approx([2 / 3, 1 / 3], abs=1e-14)


def test_the_quadrature_is_exact_at_the_longest_and_with_many_arms():
    """At n pulls in all, the polynomial has the highest degree that the nodes are exact for."""
    two, five = [[3, 100], [2, LONG - 106]], [[3, 5], [0, 2], [10, 13], [0, 0], [1, 1]]
    assert probabilities(2, LONG, two)[0] == pytest.approx(integral(two), abs=1e-10)
    assert probabilities(5, sum(map(sum, five)) + 1, five)[0] == pytest.approx(integral(five), abs=1e-10)


def test_arms_that_are_exchanged_exchange_their_probabilities():
    a, b = probabilities(2, 9, [[1, 4], [2, 1]], [[2, 1], [1, 4]])
    assert a == pytest.approx(b[::-1], abs=1e-14) and a[0] > 0.8


def test_informed_choices_are_evidence_and_rewards_alone_are_another_posterior():
    """An arm that somebody who knows takes again and again is the best, whatever it pays."""
    tunnel = Bandit(arms=2, evenness=5.0, informed=0.9)
    pulls = jnp.asarray([[[[4, 4], [0, 0]]]], jnp.int32)

    @jax.jit
    def both():
        tables = tunnel.prepare(9)
        return tunnel.log_best(tables, pulls, informed=True), tunnel.log_best(tables, pulls)

    informed, own = (np.exp(np.asarray(log_p))[0, 0] for log_p in both())
    assert own == pytest.approx([0.5, 0.5]) and informed[0] > 0.99


@pytest.mark.parametrize("inputs", [[6, 1, 1, 5], [6, 0, 0, 2], [6, 4, 3, 4]])
def test_both_posteriors_and_the_next_rewards_are_those_of_enumeration(inputs):
    """Of an expert's choices and of one's own: three arms, three pulls. They differ, and each is right."""
    observed, own = Bandit(arms=3, evenness=0.7, informed=0.4), Bandit(arms=3, evenness=0.7)
    seen, last = jnp.asarray([inputs]), jnp.asarray([3])
    answers = {}
    for tunnel in (observed, own):
        expected = Brute(tunnel, np.asarray(inputs), [0] * 4)
        log_best, log_rewards = asked(tunnel, seen, last)
        answers[tunnel.informed] = np.exp(np.asarray(log_best))[0, 0]
        assert answers[tunnel.informed] == pytest.approx(expected.predictive(3), abs=1e-12)
        rewards = [float(expected.reward(3, arm)) for arm in range(3)]
        assert np.exp(np.asarray(log_rewards))[0, 0, :, 1] == pytest.approx(rewards, abs=1e-12)
        assert np.exp(np.asarray(log_rewards)).sum(axis=-1) == pytest.approx(1, abs=1e-12)
    assert np.abs(answers[0.4] - answers[None]).max() > 0.01


@jax.jit
def asked(tunnel, seen, at):
    tables, batch = tunnel.prepare(4), Batch(seen, 0 * seen, jnp.ones(seen.shape))
    return tunnel.log_predictive(tables, batch, at), tunnel.log_rewards(tables, batch, at)


def test_data_have_the_frequencies_that_behaviour_says():
    """With little evenness one arm has nearly all pulls; choices do not depend on what is best."""

    @jax.jit
    def sampled():
        tunnel = Bandit(arms=2, evenness=0.05)
        batch = tunnel.sample(jax.random.key(0), tunnel.prepare(20), 2000, 20)
        return tunnel.pulls(batch.inputs, jnp.asarray([19]), 20), batch.outcome_BP[:, 0]

    pulls, outcome = map(np.asarray, sampled())
    first = pulls[:, 0, 0].sum(axis=-1)
    assert (pulls.sum(axis=(1, 2, 3)) == 19).all() and np.mean((first == 0) | (first == 19)) > 0.6
    assert abs(np.corrcoef(first, outcome)[0, 1]) < 5 / np.sqrt(2000)


def test_words_name_arm_and_reward():
    assert Bandit(arms=2).words(np.asarray([4, 0, 3])) == ["start", "A-", "B+"]

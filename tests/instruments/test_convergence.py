"""Convergence: laws against brute force, rates against planted curves."""

import itertools
import math

import numpy as np
import pytest

from tests.composed import study
from windtunnel.instruments.base import Subject
from windtunnel.instruments.convergence import forgetting, rate, refusal
from windtunnel.tunnels.answers import Law, binary_entropy_bits, chernoff

URN = ("tunnel=urn", "prior=generalized_gaussian", "tunnel.prior.scale=25")


def test_chernoff_information_is_known_in_closed_form_for_mirror_images():
    p = np.asarray([0.3, 0.7])
    assert chernoff(p, p[::-1]) == pytest.approx(-math.log(2 * math.sqrt(0.21)))
    assert chernoff(p, p) == pytest.approx(0, abs=1e-9)


def test_the_excess_of_the_urn_is_what_enumeration_of_all_sequences_says():
    tunnel = study(*URN, "tunnel.hypotheses=3", "tunnel.noise=0.2").tunnel
    q = tunnel._chances()
    prior = np.exp(-((np.asarray([100 / 3, 0, 100 / 3]) / 25) ** tunnel.prior.beta))
    prior = prior / prior.sum()
    expected = 0.0
    for draws in itertools.product((0, 1), repeat=4):
        joint = prior * np.prod([q if draw else 1 - q for draw in draws], axis=0)
        expected += joint.sum() * binary_entropy_bits(np.asarray(joint @ q / joint.sum()))
    expected -= prior @ binary_entropy_bits(q)
    assert tunnel.excess_bits(np.asarray([4]))[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("overrides", "observations", "kind", "value"),
    [
        (("tunnel.hypotheses=2", "tunnel.noise=0.1"), 512, "few", -math.log(2 * math.sqrt(0.21))),
        (("tunnel.hypotheses=1000", "tunnel.noise=0.1"), 512, "smooth", 1.0),
        (("tunnel.hypotheses=4", "tunnel.noise=0.3"), 512, "crossover", 0.00503),
    ],
)
def test_the_law_follows_from_grid_noise_and_length(overrides, observations, kind, value):
    law = study(*URN, *overrides).tunnel.law(observations)
    assert law.kind == kind and law.rate == pytest.approx(value, rel=1e-2)


def test_the_laws_hold_of_the_exact_urn():
    """Theory against the sum over counts: the same rates, without any model."""
    few = study(*URN, "tunnel.hypotheses=2", "tunnel.noise=0.1").tunnel
    n = np.arange(20, 161, 20)
    slope, _ = rate(few.law(512), n, few.excess_bits(n), np.ones(len(n), bool))
    assert slope == pytest.approx(few.law(512).rate, rel=0.1)
    fine = study(*URN, "tunnel.hypotheses=1000", "tunnel.noise=0.1").tunnel
    n = np.asarray([64, 128, 256, 512])
    dimensions, _ = rate(fine.law(512), n, fine.excess_bits(n), np.ones(4, bool), limit_is_known=True)
    assert dimensions == pytest.approx(1, rel=0.1)


def test_rates_of_planted_curves_come_back():
    n, all_of = np.arange(4, 60.0), np.ones(56, bool)
    assert rate(Law("few", 0, ""), n, 0.3 * np.exp(-0.05 * n), all_of)[0] == pytest.approx(0.05)
    assert rate(Law("forgetting", 0, ""), n, 0.3 * np.exp(-0.5 * n), all_of)[0] == pytest.approx(0.5)
    smooth = 0.7 + 6 / (2 * n * math.log(2))  # bits, over a limit that nobody told
    assert rate(Law("smooth", 0, ""), n, smooth, all_of)[0] == pytest.approx(6)
    assert rate(Law("count", 0, ""), n, 0.9 * n, all_of)[0] == pytest.approx(0.9)
    assert math.isnan(rate(Law("few", 0, ""), n, 0 * n, all_of)[0]), "nothing that is above zero has no rate"


def test_the_permutation_that_is_nearest_differs_by_a_transposition():
    """The closed form against the joint distribution of a key and a value, in plain sums."""
    tunnel = study("tunnel=permutation", "tunnel.symbols=4").tunnel
    ways = [(0, 1, 2, 3), (1, 0, 2, 3)]
    p, q = (np.asarray([(0.9 if v == of[x] else 0.1 / 3) / 4 for x in range(4) for v in range(4)]) for of in ways)
    assert tunnel.law(64).rate == pytest.approx(chernoff(p, q), rel=1e-5)


def test_two_beliefs_come_together_at_the_gap_of_the_lyapunov_exponents():
    """By two filters on one sequence, in plain loops; and never slower than the chain forgets."""
    tunnel = study("tunnel=mess3").tunnel
    transition, emission = (np.asarray(rows[0], float) for rows in tunnel.prepare(20))
    generator, state, apart = np.random.default_rng(1), 0, []
    beliefs = np.asarray([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    for _ in range(3000):
        state = generator.choice(3, p=transition[state] / transition[state].sum())
        symbol = generator.choice(3, p=emission[state] / emission[state].sum())
        beliefs = (beliefs @ transition) * emission[:, symbol]
        beliefs = beliefs / beliefs.sum(axis=1, keepdims=True)
        distance = np.abs(beliefs[1] - beliefs[0]).sum()
        apart.append(np.log(distance))
        beliefs[1] = beliefs[0] + (beliefs[1] - beliefs[0]) * 1e-3 / distance  # nearby again, in the same direction
    apart = np.asarray(apart) - np.log(1e-3)
    law = tunnel.law(20)
    assert law.rate == pytest.approx(-2 * apart[100:].mean(), rel=0.05)
    assert law.rate > law.least == pytest.approx(-2 * math.log(0.85), rel=1e-5)


def test_the_exact_filter_forgets_at_that_rate():
    from windtunnel.spec import arrays
    from windtunnel.train import start

    overrides = "model=transformer model.width=8 model.hidden=8 model.heads=1 position=alibi tunnel.mixing=0.8".split()
    study_arrays = arrays(study("tunnel=hmm_sticky", *overrides))
    points = forgetting(Subject(study_arrays, start(study_arrays).params))
    law = study_arrays.tunnel.law(20)
    assert law.least == pytest.approx(-2 * math.log(0.8), rel=1e-5)
    slope, _ = rate(law, points["seen"], points["excess_exact"], points["used"])
    assert slope == pytest.approx(law.rate, rel=0.15)
    assert points["excess_exact"][1] > points["excess_exact"][8] > 0


def test_what_has_no_law_says_so():
    assert "no law of convergence is stated for recall" in refusal(Subject(study("tunnel=recall"), None))
    assert "pool" in refusal(Subject(study("tunnel=urn", "tunnel.pool=4"), None))
    assert "curves" in refusal(Subject(study("tunnel=urn"), None))

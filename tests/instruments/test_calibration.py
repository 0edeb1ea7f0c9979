"""Calibration, of models that are planted: the exact reasoner, and one that is surer or less sure than it may be."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.composed import study
from tests.instruments.planted import planted
from windtunnel.instruments import base, calibration, reliability
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch

DIE = "tunnel=die tunnel.symbols=3 train.horizon=8 evaluate.reach=2 evaluate.examples=64".split()


class Planted(nnx.Module):
    """The exact predictive to the power `sharp`, normalised, of the inputs alone."""

    def __init__(self, study, params):
        self.tunnel, self.sharp = nnx.data(study.tunnel), params

    def __call__(self, inputs, tokens, *, key=None, tap=None, readings=None):
        batch, at = Batch(inputs, jnp.zeros(inputs.shape[:2], int), jnp.ones(inputs.shape[:2])), jnp.asarray(tokens)
        return self.sharp * self.tunnel.log_predictive((), batch, at)


@cache
def record(sharp):
    subject = base.Subject(arrays(study(*DIE)), jnp.asarray(sharp), model=Planted, null=jnp.asarray(0.0))
    assert calibration.refusal(subject) is None
    return calibration.measure(subject)


def test_the_exact_reasoner_has_no_excess():
    for place in ("in_range", "past"):
        of = record(1.0)[place]
        for name in ("brier", "aurc", "kl_bits"):
            assert of["excess"][name] == pytest.approx(0, abs=1e-6), name
        assert of["model"]["ece"] == pytest.approx(of["exact"]["ece"], abs=0.02), "ties may go either way"
        assert of["exact"]["ece"] > 1e-3, "of sampling"
        assert of["exact"]["ece_exact"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("sharp", "sign"), [(3.0, 1), (0.3, -1)])
def test_a_tempered_reasoner_is_surer_or_less_sure_than_it_may_be(sharp, sign):
    """Its order of predictions is another, too, since temperature changes predictions of different shapes differently;
    its choices are the same.
    """
    for place in ("in_range", "past"):
        of = record(sharp)[place]
        assert sign * of["model"]["overconfidence"] > 0.05
        assert of["model"]["ece_exact"] == pytest.approx(sign * of["model"]["overconfidence"], abs=0.02)
        assert of["model"]["ece"] > of["exact"]["ece"] + 0.02
        assert of["excess"]["brier"] > 0.005 and of["excess"]["kl_bits"] > 0.02
        assert of["excess"]["aurc"] >= -1e-9


def test_uncertainty_has_the_parts_that_an_integral_has():
    """Against draws of the die from its posterior: E[H(θ)] after counts, and the information of one more throw."""
    asked = study(*DIE)
    tunnel, random = asked.tunnel, np.random.default_rng(0)
    inputs = jnp.asarray([[3, 0, 0, 1]])  # a start, then three throws
    batch = Batch(inputs, jnp.asarray([[0, 0, 1, 2]]), jnp.ones((1, 4)))
    found = np.asarray(jax.jit(lambda: arrays(tunnel).aleatoric((), batch, jnp.arange(4)))())[0]
    for at, counts in enumerate(([0, 0, 0], [1, 0, 0], [2, 0, 0], [2, 1, 0])):
        theta = random.dirichlet(np.asarray(counts) + tunnel.concentration, 200_000)
        entropy = -(theta * np.log(np.maximum(theta, 1e-300))).sum(-1)
        assert found[at] == pytest.approx(entropy.mean(), abs=5 * entropy.std() / 200_000**0.5)


def test_two_steps_show_what_one_outcome_says_about_the_next():
    exact, dull = record(1.0)["two_step"], record(0.3)["two_step"]
    np.testing.assert_allclose(exact["model"], exact["exact"], atol=1e-5)
    assert exact["observation"] == [1, 2, 4, 7]
    assert (np.asarray(exact["exact"]) < np.asarray(exact["epistemic"])).all(), "an outcome is not the die"
    assert (np.diff(exact["exact"]) < 0).all() and (np.diff(exact["epistemic"]) < 0).all()
    assert (np.asarray(dull["model"]) < np.asarray(dull["exact"])).all()
    a = study(
        *DIE
    ).tunnel.concentration  # by hand: after one throw it comes again with (1 + a)/(1 + 3a), others a/(1 + 3a)
    again, other = (1 + a) / (1 + 3 * a), a / (1 + 3 * a)
    by_hand = np.log2(3) + again * np.log2(again) + 2 * other * np.log2(other)
    assert exact["exact"][0] == pytest.approx(by_hand, abs=1e-6)
    assert record(1.0)["in_range"]["exact"]["epistemic_bits"] > 0.01


def test_attention_that_is_the_posterior_knows_how_sure_to_be():
    overrides = "tunnel.bits=6 tunnel.symbols=4 tunnel.prior.scale=4 model.heads=1 model.width=16 train.horizon=24"
    exact = planted(study(*overrides.split(), "evaluate.reach=1", "evaluate.examples=32"))
    of = calibration.measure(exact)
    attention = of["in_range"]["attention"]
    assert attention["own"] > 0.999 and attention["entropy"] > 0.4 > attention["position"]
    assert attention["entropy"] > attention["untrained"] + 0.2 and attention["largest"] > 0.4
    assert of["past"] is None and of["two_step"] is None, "recall does not show outcomes"
    assert of["in_range"]["exact"]["aleatoric_bits"] == 0, "a pair determines its value"
    assert len(calibration.lines(base.finite(of))) == 3


def test_the_expected_calibration_error_by_hand():
    """Two predictions of 0.9, of which one comes, one of 0.5 that comes: (2 |0.9 − 0.5| + |0.5 − 1|) / 3."""
    log_q = np.log([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]])
    log_p = np.log([[0.8, 0.2], [0.4, 0.6], [0.5, 0.5]])
    outcome = np.asarray([0, 0, 0])
    confidence = reliability.confidence(log_q, log_p, outcome)
    diagram = reliability.diagram(confidence)
    assert reliability.ece(diagram, "drawn") == pytest.approx((2 * 0.4 + 0.5) / 3)
    assert reliability.ece(diagram, "exact") == pytest.approx(2 * 0.2 / 3)
    np.testing.assert_allclose(reliability.risk(confidence), [0.2, 0.3, 1.1 / 3])
    assert reliability.brier(log_q, outcome) == pytest.approx((2 * 0.01 + 2 * 0.81 + 2 * 0.25) / 3)


def test_no_other_choice_or_order_has_less_risk_than_the_exact_one():
    random = np.random.default_rng(0)
    log_p = np.log(random.dirichlet(np.ones(4), 50))
    best = reliability.risk(reliability.confidence(log_p, log_p, np.zeros(50, int)))
    for _ in range(20):
        log_q = log_p + random.normal(size=log_p.shape)
        log_q -= np.logaddexp.reduce(log_q, axis=-1, keepdims=True)
        assert (reliability.risk(reliability.confidence(log_q, log_p, np.zeros(50, int))) >= best - 1e-12).all()


def test_what_is_recorded_is_json_and_is_said_in_words():
    import json

    of = base.finite(record(3.0))
    json.dumps(of, allow_nan=False)
    assert len(calibration.lines(of)) == 5 and calibration.headline(of)["confidence_past"] > 0

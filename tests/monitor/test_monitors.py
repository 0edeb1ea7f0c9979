"""Monitors against what is planted: an exact model by hand, a broken one, and predictives with a closed form."""

import jax
import numpy as np
import pytest

from tests.composed import study, tiny
from tests.instruments.planted import Planted, parameters
from windtunnel.config import study_id
from windtunnel.errors import BadInput
from windtunnel.monitor import look
from windtunnel.monitor.monitors import FAILS, GOOD, MONITORS, NONE, WARNS, Check, drift, orders, readings
from windtunnel.spec import arrays
from windtunnel.train import start

RECALL = study("tunnel.bits=6", "tunnel.symbols=4", "train.horizon=16", "evaluate.reach=4", "monitor.examples=8")
BY_NAME = {monitor.name: monitor for monitor in MONITORS}


def check(of, seen, **beside):
    asked = jax.tree.map(np.asarray, look.asked(arrays(of)))
    return Check(of, asked, seen, **{"exchanged": None, "costs": None, "not_finite": 0, "before": None, **beside})


@pytest.fixture(scope="module")
def rows():
    """The readings of an exact model, of one whose queries are blurred, and of one whose prior is too short."""

    def seen(**wrong):
        params = parameters(RECALL, **{"blur": 0.0, "scale": None, **wrong})
        return jax.tree.map(np.asarray, look.seen(arrays(RECALL), params, np.int32(0), Planted))

    null = check(RECALL, seen(blur=1.0))
    kinds = {"exact": {}, "blurred": {"blur": 1.0}, "short": {"scale": 0.3}}
    return {name: readings(check(RECALL, seen(**wrong)), null) for name, wrong in kinds.items()}


def test_an_exact_model_has_the_values_that_an_exact_model_has(rows):
    exact = rows["exact"]
    assert exact["kl_bits"]["value"] == pytest.approx(0, abs=1e-5) and exact["kl_bits"]["state"] == GOOD
    for name in ("orthogonality", "coverage", "entropy_bits", "largest_logit"):
        assert exact[name]["value"] == pytest.approx(exact[name]["exact"], rel=1e-3), name
        assert exact[name]["null"] is not None
    assert exact["orthogonality"]["state"] != GOOD, "the seed's threshold is above what is exact"
    assert exact["extrapolation_ratio"] == {"value": None, "threshold": 100.0, "state": NONE, "null": 0.0, "exact": 4.0}
    for name in ("separation", "order_bits", "drift_bits", "missed", "latency_ms"):
        assert exact[name]["state"] == NONE and exact[name]["value"] is None


def test_a_broken_one_fails_where_it_is_broken_and_geometry_does_not_see_it(rows):
    for name in ("blurred", "short"):
        broken = rows[name]
        assert broken["kl_bits"]["state"] == FAILS and broken["extrapolation_ratio"]["value"] == 0
        assert broken["orthogonality"]["value"] == pytest.approx(rows["exact"]["orthogonality"]["value"]), "same keys"
    assert rows["blurred"]["kl_bits"]["value"] == rows["blurred"]["kl_bits"]["null"], "the null is the blurred one"


def test_what_is_exchangeable_neither_spreads_nor_drifts():
    """Laplace's rule after 3 draws, 2 of them 1: p(1) = 3/5; then 4/6 or 3/6, and 3/5 · 4/6 + 2/5 · 3/6 = 3/5."""
    now, then = np.log([[0.4, 0.6]]), np.log([[[3 / 6, 3 / 6]], [[2 / 6, 4 / 6]]])
    same = np.log(np.full((4, 1, 2), 0.5))
    exact = Check(RECALL, None, None, look.Exchanged(same, now, then), None, 0, None)
    assert drift(exact) == pytest.approx(0, abs=1e-12) and orders(exact) == pytest.approx(0, abs=1e-12)
    recent = np.log([[[0.9, 0.1]], [[0.1, 0.9]]])  # follows the last draw alone
    wrong = exact._replace(exchanged=look.Exchanged(np.concatenate([recent, recent]), now, recent))
    assert orders(wrong) == pytest.approx(1 - (-0.9 * np.log2(0.9) - 0.1 * np.log2(0.1)))
    mixed = 0.6 * 0.9 + 0.4 * 0.1
    assert drift(wrong) == pytest.approx(0.6 * np.log2(0.6 / mixed) + 0.4 * np.log2(0.4 / (1 - mixed)))


def test_orders_and_outcomes_are_those_of_the_tunnel():
    """With one head, one layer and no positions, the predictive after the start is a function of counts and of the last
    token alone.
    """
    die = study("tunnel=die", "train.horizon=8", "evaluate.reach=1", "monitor.examples=4", "model.width=16")
    params = jax.jit(start)(arrays(die)).params
    of = jax.tree.map(np.asarray, look.exchanged(arrays(die), params, np.int32(0)))
    assert of.log_orders_RBV.shape == (look.ORDERS, 4, 10) and of.log_then_VBV.shape == (10, 4, 10)
    np.testing.assert_allclose(np.exp(of.log_now_BV).sum(-1), 1, rtol=1e-5)
    assert np.ptp(of.log_orders_RBV, axis=0).max() > 0, "the last token differs"
    assert not np.allclose(of.log_then_VBV[0], of.log_then_VBV[1])


@pytest.mark.parametrize(
    ("name", "threshold", "good", "warns", "fails"),
    [("orthogonality", 0.9, 0.95, 0.7, 0.69), ("kl_bits", 0.01, 0.01, 0.1, 0.11), ("not_finite", 0.0, 0, None, 1),
     ("extrapolation_ratio", 100.0, 100, 10, 9), ("entropy_bits", 0.1, 1, 0.01, 0.001)],
)  # fmt: skip
def test_states(name, threshold, good, warns, fails):
    state = BY_NAME[name].state
    assert state(good, threshold) == GOOD and state(fails, threshold) == FAILS
    assert warns is None or state(warns, threshold) == WARNS
    assert state(None, threshold) == NONE and state(float("nan"), threshold) == FAILS


def test_what_only_watches_is_in_no_name():
    plain = study_id(tiny())
    assert plain == study_id(tiny("monitor.every=2", "monitor.kl_bits=0.5", "monitor.costs=true"))
    fault = study_id(tiny("monitor.fault.name=nan_parameter", "monitor.fault.step=2"))
    assert fault == study_id(tiny("monitor.fault.name=nan_parameter", "monitor.fault.step=2", "monitor.every=2"))
    recovers = study_id(tiny("monitor.every=2", "monitor.recover.tries=3"))
    assert len({plain, fault, recovers, study_id(tiny("monitor.every=1", "monitor.recover.tries=3"))}) == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["monitor.recover.tries=3"], r"monitor\.recover\.tries=3: nothing is recovered without checks"),
        (
            ["monitor.fault.name=nan_parameter", "monitor.fault.step=4"],
            r"monitor\.fault\.step=4: training has train\.steps=4",
        ),
        (["monitor.fault.name=merged"], r"monitor\.fault\.name=merged: recall has neither domains nor"),
        (["monitor.fault.name=rank_one", "model=adaptive"], r"monitor\.fault\.name=rank_one: needs attention"),
        (["monitor.every=-1"], r"monitor\.every=-1: should be greater than or equal to 0"),
        (["monitor.fault.name=rank"], r"monitor\.fault\.name=rank: should be "),
    ],
)
def test_what_makes_no_sense_is_one_line(overrides, message):
    with pytest.raises(BadInput, match=message):
        tiny(*overrides)

"""The comparator against planted truth."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from windtunnel import compare as c
from windtunnel.problem import Evaluate, Exact, Problem
from windtunnel.tunnels import Hmm, Recall

HORIZON, LENGTH, EXAMPLES, OUTCOMES = 32, 1024, 64, 5


@pytest.fixture
def problem():
    """One whose exact answers are planted."""
    return Problem(tunnel=Recall(), horizon=HORIZON, evaluate=Evaluate(reach=LENGTH / HORIZON, examples=EXAMPLES))


@pytest.fixture
def log_p(problem):
    logits = np.random.default_rng(0).normal(size=(EXAMPLES, len(problem.bins.at), OUTCOMES)) * 2
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def uniform_log(like):
    return np.full(like.shape, -math.log(OUTCOMES))


def mixed_in(log_p, share):
    """(1−share) p + share/V, with `share` per position."""
    return np.log((1 - share)[None, :, None] * np.exp(log_p) + share[None, :, None] / OUTCOMES)


def judged(problem, log_p, log_q, baselines=None, more=None):
    baselines = baselines or {"prior": uniform_log(log_p), "last-horizon": uniform_log(log_p)}
    weight = np.ones(log_p.shape[:2])
    outcome = np.argmax(log_p, axis=-1)
    return c.verdict(problem, Exact(log_p, None, baselines, outcome, weight), log_q, more)


def test_the_exact_posterior_is_at_zero(problem, log_p):
    numbers, _ = judged(problem, log_p, log_p.copy())
    assert abs(numbers["kl_bits"]) < 1e-9 and abs(numbers["kl_bits_past"]) < 1e-9
    for metric in ("js_bits", "tv", "entropy_gap_bits", "impossible_mass"):
        assert abs(numbers[metric]) < 1e-9
    assert numbers["censored"] and numbers["extrapolation_ratio"] == LENGTH / HORIZON
    assert numbers["verdict"] == "extrapolates"


def test_divergences_of_known_distributions():
    """p = (½, ½, 0) and q = (¼, ½, ¼): by hand."""
    with np.errstate(divide="ignore"):
        p, q = np.log([[[0.5, 0.5, 0.0]]]), np.log([[[0.25, 0.5, 0.25]]])
    found = {name: float(value[0, 0]) for name, value in c.divergences(p, q).items()}
    assert found["kl_bits"] == pytest.approx(0.5)
    m = (0.375, 0.5, 0.125)
    kl_p = 0.5 * math.log2(0.5 / m[0])
    kl_q = 0.25 * math.log2(0.25 / m[0]) + 0.25 * math.log2(0.25 / m[2])
    assert found["js_bits"] == pytest.approx((kl_p + kl_q) / 2)
    assert found["tv"] == pytest.approx(0.25)
    assert found["entropy_gap_bits"] == pytest.approx(0.5)
    assert found["impossible_mass"] == pytest.approx(0.25)


def test_kl_is_infinite_where_the_model_excludes_what_happens():
    with np.errstate(divide="ignore"):
        p, q = np.log([[[0.5, 0.5]]]), np.log([[[1.0, 0.0]]])
    assert c.kl_bits(p, q)[0, 0] == np.inf


def test_equal_entropies_hide_a_wrong_posterior_but_kl_does_not():
    p, q = np.log([[[0.7, 0.2, 0.1]]]), np.log([[[0.1, 0.2, 0.7]]])
    found = c.divergences(p, q)
    assert found["entropy_gap_bits"][0, 0] == pytest.approx(0)
    assert found["kl_bits"][0, 0] > 1


@pytest.mark.parametrize("critical", [200, 500])
def test_a_planted_decay_gives_back_its_critical_length(problem, log_p, critical):
    """The share of noise grows with length so that the expected KL crosses τ at a known place."""
    position = np.concatenate([np.asarray(b.scored, float) for b in problem.bins.each])
    kl_of_share = {
        s: c.kl_bits(log_p, mixed_in(log_p, np.full(len(position), s))).mean() for s in (0.0, 0.05, 0.1, 0.2)
    }
    share = np.interp(0.01, list(kl_of_share.values()), list(kl_of_share)) * (position / critical) ** 2
    numbers, _ = judged(problem, log_p, mixed_in(log_p, np.minimum(share, 0.9)))
    assert not numbers["censored"]
    # To within what is open: 64 sequences leave bins near τ undecided.
    assert numbers["critical_length_low"] <= critical * 1.1
    assert critical * 0.9 <= numbers["critical_length_high"] <= critical * 1.5
    assert numbers["extrapolation_ratio"] == numbers["critical_length"] / HORIZON
    assert numbers["verdict"] == "extrapolates in part"


def test_more_sequences_decide_bins_and_change_no_mean(problem, log_p):
    shares = np.linspace(0.01, 0.2, 20)
    everywhere = [c.kl_bits(log_p, mixed_in(log_p, np.full(len(problem.bins.at), s))).mean() for s in shares]
    share = np.where(problem.bins.past_P > 0, np.interp(0.0085, everywhere, shares), 0.0)  # near τ
    log_q = mixed_in(log_p, share)
    few, curves = judged(problem, log_p, log_q)
    kl_BP = np.tile(c.kl_bits(log_p, log_q), (30, 1))
    many, same = judged(problem, log_p, log_q, more=c.More(kl_BP, np.ones(kl_BP.shape)))
    assert few["open"] and not many["open"] and many["sequences"] == 31 * EXAMPLES
    changed = {key for key in few if few[key] != many[key]}
    assert changed <= {"open", "sequences", "unseen_share", "verdict", "censored", "extrapolation_ratio",
                       "critical_length", "critical_length_low", "critical_length_high"}  # fmt: skip
    for name in curves.keys() - {"state"}:
        np.testing.assert_array_equal(curves[name], same[name])


def test_the_worst_bin_in_range_stands_beside_the_mean(problem, log_p):
    share = np.where(problem.bins.number_P == 2, 0.5, 0.0)
    numbers, curves = judged(problem, log_p, mixed_in(log_p, share))
    worst = problem.bins.each[2]
    assert numbers["worst_bin"] == f"{worst.first}–{worst.last}" and numbers["worst_bin_bits"] == curves["kl_bits"][2]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_leave_valid_json(problem, log_p, value):
    log_q = log_p.copy()
    log_q[3, -1] = value
    numbers, _ = judged(problem, log_p, log_q)
    json.dumps(numbers, allow_nan=False)
    assert numbers["verdict"] == "extrapolates in part" and numbers["kl_bits_past"] is None


@pytest.mark.parametrize(("tail", "low", "high"), [(0.9, 5, 5), (0.22, 5, 6)])
def test_a_model_that_follows_five_pointers_has_five_critical_hops(problem, log_p, tail, low, high):
    """Exact up to five hops; beyond, wrong or on the verge of it."""
    asked = np.random.default_rng(1).integers(0, 7, log_p.shape[:2])
    share = np.where(asked > 5, tail, 0.0)[..., None]
    log_q = np.log((1 - share) * np.exp(log_p) + share / OUTCOMES)
    if tail < 0.5:  # the mean stays, its error grows
        kept = np.random.default_rng(2).random(EXAMPLES)[:, None, None] < 0.9
        log_q = np.where(kept, log_p, log_q)
    weight, outcome = np.ones(log_p.shape[:2]), np.argmax(log_p, axis=-1)
    exact = Exact(log_p, None, {"prior": uniform_log(log_p)}, outcome, weight, asked)
    numbers, curves = c.by_hops(problem, exact, log_q)
    assert numbers == {"critical_hops": high, "critical_hops_low": low, "hops_judged": 6}
    np.testing.assert_array_equal(curves["hops"], np.arange(7))
    gap = c.kl_bits(log_p, log_q)
    inside = problem.bins.inside_P > 0
    assert curves["hops/kl_bits"][6] == pytest.approx(gap[:, inside][asked[:, inside] == 6].mean())
    assert curves["hops/kl_bits_past"][6] > 0 and curves["hops/baseline/prior_past"][0] > 0.1


def test_without_headroom_the_verdict_is_vacuous(problem, log_p):
    """A reasoner that sees only one horizon is nearly as good: holding proves nothing."""
    nearly = mixed_in(log_p, np.full(log_p.shape[1], 0.02))
    numbers, curves = judged(problem, log_p, log_p, {"prior": uniform_log(log_p), "last-horizon": nearly})
    beyond = curves["first"] > HORIZON
    assert (curves["headroom_bits"][beyond] < 0.1).all() and (curves["headroom_bits"][beyond] > 0).all()
    assert numbers["censored"] and numbers["verdict"] == "vacuous"
    assert numbers["headroom_bits_past"] == pytest.approx(
        c.kl_bits(log_p, nearly)[:, problem.bins.past_P > 0].mean(), rel=0.1
    )


def test_in_range_one_horizon_is_everything_and_does_not_count_as_headroom(problem, log_p):
    numbers, curves = judged(problem, log_p, log_p, {"prior": uniform_log(log_p), "last-horizon": log_p})
    inside = curves["last"] <= HORIZON
    assert (curves["headroom_bits"][inside] > 0.1).all() and (curves["headroom_bits"][~inside] == 0).all()
    assert numbers["headroom_bits"] > 0.1 and numbers["headroom_bits_past"] == 0


def test_standard_error_covers_the_mean():
    """Of 400 sets of examples whose positions are correlated, 95 % ± 4 % of intervals hold the true mean of 1."""
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        example = generator.gamma(2.0, 0.5, size=(30, 1))
        values = example * generator.gamma(3.0, 1 / 3, size=(30, 6))
        mean, error = c.mean_and_error(values, np.ones(values.shape))
        covered += abs(mean - 1) < 2.045 * error
    assert 0.88 < covered / 400 < 0.98


def test_weights_leave_out_what_does_not_count():
    values = np.asarray([[1.0, 100.0], [3.0, 100.0]])
    mean, error = c.mean_and_error(values, np.asarray([[1.0, 0.0], [1.0, 0.0]]))
    assert (mean, error) == (2.0, pytest.approx(1.0))
    assert math.isnan(c.mean_and_error(values, np.zeros((2, 2)))[0])


def test_equivalent_memory_is_the_smallest_window_as_good_as_the_model():
    gaps = {1: 0.5, 2: 0.2, 4: 0.05, 8: 0.01}
    assert c.equivalent_memory(gaps, 0.1) == {"equivalent_memory": 4, "equivalent_memory_censored": False}
    assert c.equivalent_memory(gaps, 0.001) == {"equivalent_memory": 8, "equivalent_memory_censored": True}


def entropy_curves(problem, exact, model):
    position = np.sqrt([b.first * b.last for b in problem.bins.each])
    first, last = (np.asarray([getattr(b, name) for b in problem.bins.each]) for name in ("first", "last"))
    curves = {"first": first, "last": last, "entropy_bits_exact": exact(position), "entropy_bits": model(position)}
    return {**curves, "entropy_bits_se": np.full(len(first), 1e-3), "entropy_bits_exact_se": np.full(len(first), 1e-3)}


def test_convergence_length_of_a_planted_curve(problem):
    """1 + 1/n is within 0.01 of its limit from n = 100 on; the model lags behind by a factor of two."""
    curves = entropy_curves(problem, lambda n: 1 + 1 / n, lambda n: 1 + 2 / n)
    found = c.convergence(curves, 0.01, 1.0)
    assert found["convergence_length_exact"] == pytest.approx(100, rel=0.1)
    assert found["convergence_length"] == pytest.approx(200, rel=0.1)
    from_last_octave = c.convergence(curves, 0.01, None)
    assert from_last_octave["convergence_length_exact"] == pytest.approx(100, rel=0.2)
    assert found["convergence"] == from_last_octave["convergence"] == "converged"
    curves["entropy_bits_se"][5] = 0.02
    unsure = c.convergence(curves, 0.01, 1.0)
    assert unsure["convergence"] == "not resolved" and unsure["convergence_length"] is None
    assert unsure["convergence_length_exact"] == found["convergence_length_exact"]


def test_what_still_moves_has_not_converged(problem):
    curves = entropy_curves(problem, lambda n: np.log2(n), lambda n: np.log2(n))
    assert c.convergence(curves, 0.01, None) == {
        "convergence_length": None, "convergence_length_exact": None, "convergence": "not converged"}  # fmt: skip


@pytest.mark.parametrize(("like", "recursing"), [("last-4", False), ("last-8", False), ("last-16", True)])
def test_a_model_that_remembers_a_window_does_not_recurse(problem, log_p, like, recursing):
    shares = {"prior": 0.9, "last-4": 0.7, "last-8": 0.5, "last-16": 0.3, "last-horizon": 0.2}
    positions = len(problem.bins.at)
    baselines = {name: mixed_in(log_p, np.full(positions, share)) for name, share in shares.items()}

    def numbers(recursive, tolerance=0.01):
        evaluate = replace(problem.evaluate, tolerance=tolerance)
        asked = replace(problem, tunnel=Hmm() if recursive else Recall(), evaluate=evaluate)
        return judged(asked, log_p, baselines[like], baselines)[0]

    found = numbers(recursive=True)
    assert found["recursing"] is recursing and found["verdict"].endswith("not recursing") is not recursing
    assert numbers(recursive=False)["recursing"] is None
    assert numbers(recursive=True, tolerance=10.0)["recursing"] is None, "the last 8 say all there is"

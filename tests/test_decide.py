"""Verdicts against planted models: each rule, on the model that the rule before it misread (docs/verdicts.md)."""

import numpy as np
import pytest

from windtunnel.bins import bins
from windtunnel.decide import FAILS, HOLDS, OPEN, curve, decide, mean_and_error, outcome, state

HORIZON, LENGTH, TAU = 32, 1024, 0.01
BINS = bins(HORIZON, LENGTH)
HEADROOM = np.full(len(BINS.each), 0.3)


def verdict(kl_BP, weight_BP=None, headroom=HEADROOM, tau=TAU):
    weight_BP = np.ones(kl_BP.shape) if weight_BP is None else weight_BP
    decision = decide(BINS, kl_BP, weight_BP, tau)
    return outcome(decision, headroom, tau), decision


def flat(kl, sequences=64, noise=0.2, seed=0):
    """Sequences of a model with this KL everywhere (or [P]), each off by a factor of its own."""
    random = np.random.default_rng(seed)
    return np.broadcast_to(kl, len(BINS.at))[None] * random.gamma(1 / noise**2, noise**2, (sequences, len(BINS.at)))


def past(inside, outside):
    """[P]"""
    return np.where(BINS.past_P > 0, outside, inside)


def test_what_surely_holds_holds_and_what_surely_fails_fails():
    assert verdict(flat(1e-3))[0] == "extrapolates"
    assert verdict(flat(0.5))[0] == "fails in range"
    words, decision = verdict(flat(past(1e-3, 0.5)))
    assert words == "stops near the horizon"
    assert decision.lengths() == {
        "critical_length": HORIZON, "critical_length_low": HORIZON, "critical_length_high": HORIZON,
        "extrapolation_ratio": 1.0, "censored": False}  # fmt: skip


def test_one_sequence_in_64_that_is_ten_bits_wrong_does_not_extrapolate():
    """KL 0.156 past the horizon, with a standard error of 0.156: m − 2 SE ≤ τ called that holding."""
    kl_BP = flat(1e-3)
    kl_BP[7, BINS.past_P > 0] = 10.0
    words, decision = verdict(kl_BP)
    assert words == "open" and decision.open and decision.lengths()["critical_length_low"] == HORIZON
    more = np.tile(kl_BP, (16, 1))
    assert verdict(more)[0] == "stops near the horizon", "1,024 sequences decide it"


def test_two_sequences_with_two_bits_do_not_extrapolate():
    kl_BP = flat(1e-3)
    kl_BP[[3, 40], :] = np.where(BINS.past_P > 0, 2.0, kl_BP[[3, 40], :])
    assert verdict(kl_BP)[0] == "open"


def test_a_model_at_exactly_tau_is_open():
    """It held in 18 of 40 draws."""
    words = [verdict(flat(past(1e-3, TAU), noise=1.0, seed=seed))[0] for seed in range(40)]
    assert words.count("open") >= 38


def test_a_bin_at_tau_is_called_wrongly_once_in_thousands_of_draws():
    random = np.random.default_rng(0)
    states = [state(random.normal(TAU, 1e-3), 1e-3, 512, TAU) for _ in range(20_000)]
    assert 1 - states.count(OPEN) / len(states) < 1e-3


def test_a_single_bin_does_not_decide_in_part():
    """A run of holding bins of at least an octave is needed, each with headroom, before the first that fails."""
    beyond = BINS.beyond
    near = BINS.number_P < beyond[2]  # holds for two bins past the horizon
    assert verdict(flat(np.where(near, 1e-3, 0.7)))[0] == "stops near the horizon"
    octave = BINS.number_P < next(i for i in beyond if BINS.each[i].first > 2 * HORIZON)
    kl_P = np.where(octave, 1e-3, 0.7)
    assert verdict(flat(kl_P))[0] == "extrapolates in part"
    gap = HEADROOM.copy()
    gap[beyond[3]] = 0.05  # one bin in the run proves nothing
    assert verdict(flat(kl_P), headroom=gap)[0] == "stops near the horizon"


def test_holding_without_headroom_is_vacuous():
    assert verdict(flat(1e-3), headroom=np.full(len(BINS.each), 0.09))[0] == "vacuous"
    only_far = np.where(np.arange(len(BINS.each)) == len(BINS.each) - 1, 0.5, 0.01)
    assert verdict(flat(1e-3), headroom=only_far)[0] == "vacuous", "one bin proves nothing"


def test_a_bad_place_in_range_is_named():
    """0.12 bits at the first places, the rest exact: the mean over the horizon hides it."""
    kl_P = past(1e-4, 1e-4)
    kl_P[:4] = 0.06
    words, decision = verdict(flat(kl_P))
    assert decision.in_range == HOLDS and words == "fails in range at 1–4"
    far = np.where(BINS.at >= 4 * HORIZON, 0.5, kl_P)
    assert verdict(flat(far))[0] == "extrapolates in part; fails in range at 1–4"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_past_the_horizon_fails_there_and_not_in_range(value):
    kl_BP = flat(1e-3)
    kl_BP[5, -1] = value
    words, decision = verdict(kl_BP)
    assert words == "extrapolates in part" and decision.states[-1] == FAILS
    assert decision.lengths()["critical_length"] == BINS.each[-1].first - 1


def test_samples_count_with_their_weights():
    """Four samples that happen to agree have no spread: they promised 256 and decided."""
    weight_BP = np.ones((64, len(BINS.at)))
    weight_BP[:, :4] = 0.0
    weight_BP[:1, :4] = 1.0
    kl_BP = flat(1e-3)
    kl_BP[:, :4] = 0.5
    decision = decide(BINS, kl_BP, weight_BP, TAU)
    assert decision.states[0] == OPEN and verdict(kl_BP, weight_BP)[0] == "extrapolates"


def test_bins_do_not_depend_on_how_many_sequences_there_are():
    assert all(len(b.scored) >= 4 for b in BINS.each)
    decisions = [decide(BINS, flat(1e-3, n), np.ones((n, len(BINS.at))), TAU) for n in (16, 64, 256)]
    assert [decision.bins for decision in decisions] == [BINS] * 3
    assert decisions[0].open and not decisions[1].open, "16 × 4 samples are too few to decide"


def test_what_is_open_before_a_failure_is_the_interval_of_the_critical_length():
    beyond = BINS.beyond
    kl_P = np.where(BINS.number_P < beyond[4], 1e-3, np.where(BINS.number_P < beyond[8], TAU, 0.5))
    decision = verdict(flat(kl_P, noise=1.0))[1]
    lengths = decision.lengths()
    assert lengths["critical_length_low"] == BINS.each[beyond[4]].first - 1
    assert lengths["critical_length_high"] == lengths["critical_length"] == BINS.each[beyond[8]].first - 1
    assert decision.open and not lengths["censored"]


def test_nothing_past_the_horizon_was_asked():
    inside = bins(HORIZON, HORIZON)
    kl_BP = np.full((64, len(inside.at)), 1e-3)
    decision = decide(inside, kl_BP, np.ones(kl_BP.shape), TAU)
    assert outcome(decision, np.full(len(inside.each), 0.3), TAU) == "exact in range"
    assert outcome(decision, np.full(len(inside.each), 0.05), TAU) == "vacuous"


def test_standard_errors_are_over_sequences():
    kl_BP = flat(1e-2)
    means, errors = curve(BINS, kl_BP, np.ones(kl_BP.shape))
    first = kl_BP[:, BINS.number_P == 0]
    assert means[0] == pytest.approx(first.mean())
    assert errors[0] == pytest.approx(first.mean(1).std(ddof=1) / 8, rel=1e-6)
    assert np.isnan(mean_and_error(kl_BP, np.zeros(kl_BP.shape))[0])

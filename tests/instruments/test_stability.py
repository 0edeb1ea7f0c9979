"""The stability analyser against planted decays and planted faults."""

import math

import numpy as np
import pytest

from tests.composed import study
from tests.instruments.planted import planted, subject
from windtunnel.instruments import stability
from windtunnel.instruments.base import Subject
from windtunnel.instruments.fits import fit

X = 2 ** (np.arange(1, 57) / 8)  # 8 bins an octave, to 128 horizons
TAU = 0.01


def noisy(kl, seed=0):
    """What is measured of a curve: 5 % of noise, and its standard error."""
    return kl * np.exp(0.05 * np.random.default_rng(seed).normal(size=len(kl))), 0.05 * kl


@pytest.mark.parametrize("critical", [3.0, 20.0, 100.0])
@pytest.mark.parametrize("name", ["power", "exponential", "logistic"])
def test_a_planted_decay_gives_back_its_law_and_its_critical_length(name, critical):
    curve = {
        "power": TAU * (X / critical) ** 1.5,
        "exponential": TAU * np.exp((X - critical) / 30),
        "logistic": TAU * np.exp(3 * (1 / (1 + (critical / X) ** 2) - 0.5)),  # half-way up at the critical length
    }[name]
    tried = [fit(X, *noisy(curve, seed), TAU) for seed in range(5)]
    chosen = [result["family"] for result in tried]
    assert chosen.count(name) >= 3, "AIC is generous, but mostly right"
    for result in tried:
        assert result["aic"][result["family"]] == 0 and result["aic"]["constant"] > 10
        assert result["critical"] == pytest.approx(critical, rel=0.25) and result["inside"]
        assert result["critical_low"] <= result["critical"] <= result["critical_high"]


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    held = 0
    for seed in range(20):
        decay = fit(X, *noisy(TAU * (X / 20) ** 1.5, seed), TAU)
        held += decay["critical_low"] <= 20 <= decay["critical_high"]
    assert held >= 15


def test_what_does_not_decay_is_called_constant():
    tried = [fit(X, *noisy(np.full(len(X), 0.002), seed), TAU) for seed in range(5)]
    constant = [decay for decay in tried if decay["family"] == "constant"]
    assert len(constant) >= 3 and all(decay["critical"] == math.inf and not decay["inside"] for decay in constant)
    assert fit(X, *noisy(np.full(len(X), 0.5)), TAU)["critical"] < 1
    assert fit(X[:2], *noisy(np.full(2, 0.5)), TAU)["family"] is None


RECALL = ("tunnel.bits=6 tunnel.symbols=4 tunnel.prior.scale=4 model.heads=1 model.width=16 train.horizon=24 "
          "evaluate.reach=4").split()  # fmt: skip


def judged(monkeypatch, **fault):
    return stability.attention(planted(study(*RECALL), **fault), TAU)


def test_the_posterior_itself_neither_dilutes_nor_fails(monkeypatch):
    attention = judged(monkeypatch)
    assert attention["x"] == [0.5, 1, 2, 4] and attention["at_horizon"] == 1
    assert attention["mass"] == pytest.approx(np.ones((4, 1)), abs=1e-3)
    assert (np.diff(attention["uniform_mass"]) < 0).all(), "uniform attention does dilute"
    for kl in attention["repair"].values():
        assert max(map(abs, kl)) < 1e-3
    assert attention["first"] is None


def test_a_wrong_position_is_named(monkeypatch):
    attention = judged(monkeypatch, scale=1e6)
    assert attention["first"] == "position"
    assert attention["repair"]["none"][-1] > 10 * abs(attention["repair"]["position"][-1])


def test_wrong_content_is_named(monkeypatch):
    attention = judged(monkeypatch, blur=0.15)
    assert attention["first"] == "dilution"
    assert attention["repair"]["dilution"][-1] < 0.1 * attention["repair"]["none"][-1]
    assert attention["mass"][-1] < 0.97


def test_what_makes_no_sense_is_said():
    assert "nothing past the horizon" in stability.refusal(Subject(study("evaluate.reach=1"), None))
    assert "curves" in stability.refusal(Subject(study("evaluate.reach=4"), None))
    rope = subject(study(*RECALL, "position=rope", "model.width=16"))
    assert stability.content_slopes(rope) is None, "a rotation is no prior that could be split off"

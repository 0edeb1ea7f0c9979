"""The geometry detector against frames that are set by hand, and against chance."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.composed import study
from tests.instruments.planted import planted
from windtunnel.instruments import geometry
from windtunnel.instruments.base import finite
from windtunnel.instruments.geometry import directions, first_component, held_out_r2, orthogonality
from windtunnel.tunnels.answers import Frame

NORMAL = np.random.default_rng(0).normal


def test_orthogonal_keys_score_one_whatever_their_length():
    rotation, _ = np.linalg.qr(NORMAL(size=(8, 8)))
    measures = orthogonality((rotation[:5] * np.arange(1, 6)[:, None])[None], spectrum=True)
    assert measures["score"] == pytest.approx(1) and measures["mean_abs_cos"] == pytest.approx(0, abs=1e-12)
    assert measures["coverage"] == 1
    assert (measures["utilisation"], measures["utilisation_entropy"]) == pytest.approx((5 / 8, 5 / 8))
    assert measures["singular"] == pytest.approx([1] * 5)


def test_the_best_packing_of_more_keys_than_dimensions_scores_one():
    """Three directions at 120° in a plane reach the Welch bound ½."""
    angle = 2 * np.pi * np.arange(3) / 3
    measures = orthogonality(np.stack([np.cos(angle), np.sin(angle)], axis=1)[None])
    assert measures["rms_cos"] == pytest.approx(0.5) and measures["score"] == pytest.approx(1)
    assert measures["utilisation"] == pytest.approx(1)


def test_parallel_keys_score_zero_and_cover_nothing():
    measures = orthogonality(np.outer(np.arange(1, 5), NORMAL(size=6))[None])
    assert measures["score"] == pytest.approx(0, abs=1e-9) and measures["coverage"] == 0
    assert measures["utilisation"] == pytest.approx(1 / 6)


def test_coverage_counts_the_hypotheses_that_nobody_shares():
    shared = np.asarray([[1, 0, 0], [1, 0.5, 0], [0, 0, 1.0]])
    assert orthogonality(shared[None])["coverage"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("d", [8, 32, 192])
def test_random_keys_are_at_chance(d):
    measures = orthogonality(NORMAL(size=(20, 16, d)))
    assert measures["mean_abs_cos"] == pytest.approx(math.sqrt(2 / (math.pi * d)), rel=0.05)
    assert measures["score"] == pytest.approx(geometry._score(1 / math.sqrt(d), 16, d), abs=0.03)


def test_a_direction_is_the_mean_key_of_its_hypothesis_and_labels_that_are_shuffled_destroy_it():
    label = np.tile(np.arange(4), (3, 5))
    keys = np.eye(4)[label] + 0.01 * NORMAL(size=(3, 20, 4))
    frame = Frame("symbols", label, 4)
    assert orthogonality(directions(keys, frame))["score"] > 0.99
    mixed = replace(frame, label_BT=np.random.default_rng(0).permutation(label.ravel()).reshape(label.shape))
    assert orthogonality(directions(keys, mixed))["score"] < 0.3
    none = replace(frame, label_BT=np.where(label == 2, -1, label))
    assert directions(keys, none).shape == (1, 3, 4), "what stands for nothing is left out"


def test_a_belief_that_is_in_the_states_is_found_and_one_that_is_only_the_time_is_not():
    belief = NORMAL(size=(32, 10, 2))
    states = np.concatenate([belief @ NORMAL(size=(2, 3)), NORMAL(size=(32, 10, 3))], axis=-1)
    weight = np.ones((32, 10), bool)
    assert held_out_r2(states, belief, weight) > 0.99
    assert held_out_r2(states, np.roll(belief, 1, axis=0), weight) < 0.05
    time = np.broadcast_to(np.arange(10.0)[None, :, None], (32, 10, 1))
    noise = 1e-3 * NORMAL(size=(32, 10, 1))
    assert held_out_r2(np.concatenate([states, time], axis=-1), time + noise, weight) < 0.1


def test_one_component_has_all_the_variance_of_a_line():
    assert first_component(np.outer(NORMAL(size=50), NORMAL(size=7))) == pytest.approx(1)


def test_the_keys_of_a_planted_model_are_the_codes_of_the_data(monkeypatch):
    overrides = "tunnel.bits=6 tunnel.symbols=4 tunnel.prior.scale=4 model.heads=1 model.width=16 train.horizon=24"
    record = finite(geometry.measure(planted(study(*overrides.split()))))
    (head,), codes = record["keys"]["heads"], record["keys"]["codes"]
    for name in ("rms_cos", "mean_abs_cos", "coverage"):
        assert head[name] == pytest.approx(codes[name], abs=1e-5)
    assert head["shuffled"] is None and record["keys"]["n"] == 24
    assert record["manifold"]["belief_r2"] > 0.99 > record["manifold"]["shuffled"]["belief_r2"] + 0.5
    assert len(geometry.lines(record)) == 3 and geometry.headline(record)["coverage"] == head["coverage"]


def test_domains_that_lie_apart_are_told_apart_and_domains_that_do_not_are_not():
    from types import SimpleNamespace

    domain = np.random.default_rng(0).integers(0, 2, size=(40, 6))
    posterior = np.log(np.where(np.arange(2)[None, None] == domain[..., None], 0.99, 0.01))

    def seen(states):
        batch = SimpleNamespace(weight_BP=np.ones((40, 6)))
        taps = {"residual": {0: states}}
        return SimpleNamespace(log_domains_BPK=posterior, taps=taps, tokens=np.arange(6), batch=batch)

    noise = NORMAL(size=(40, 6, 4))
    apart = geometry.domains(seen(noise + 8 * domain[..., None]), seen(noise))
    assert apart["separation"] > 0.99 and abs(apart["untrained"]) < 0.3 and apart["shuffled"] < 0.3

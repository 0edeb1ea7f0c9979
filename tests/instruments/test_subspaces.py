"""Overlap of principal subspaces, planted and by chance."""

import numpy as np
import pytest

from windtunnel.instruments.subspaces import subspaces

B, P, D = 40, 10, 12
DRAW = np.random.default_rng(0)
DOMAIN = np.arange(B) % 2
SURE = np.where(np.eye(2)[DOMAIN] > 0, 0.0, -np.inf)[:, None].repeat(P, 1)
EVEN = np.ones((B, P))


def test_orthogonal_manifolds_do_not_overlap_and_the_same_do():
    near, far = DRAW.normal(size=(B, P, 3)), DRAW.normal(size=(B, P, 3))
    apart = np.zeros((B, P, D))
    apart[DOMAIN == 0, :, :3], apart[DOMAIN == 1, :, 3:6] = near[DOMAIN == 0], far[DOMAIN == 1]
    turn, _ = np.linalg.qr(DRAW.normal(size=(D, D)))
    measured = subspaces(apart @ turn, SURE, EVEN)
    assert measured["directions"] == 3 and measured["chance"] == 3 / D
    assert measured["overlap"] == pytest.approx(0, abs=1e-9) and measured["alike"] == pytest.approx(0, abs=1e-9)
    assert measured["angles"] == pytest.approx([90] * 3)
    same = np.concatenate([near, np.zeros((B, P, D - 3))], axis=-1) @ turn
    measured = subspaces(same, SURE, EVEN)
    assert measured["overlap"] == pytest.approx(1) and measured["angles"] == pytest.approx([0] * 3, abs=1e-4)


def test_a_shared_direction_is_an_angle_of_zero():
    states = np.zeros((B, P, D))
    states[..., 0] = DRAW.normal(size=(B, P))
    for k in range(2):
        states[k == DOMAIN, :, 1 + k] = DRAW.normal(size=(B // 2, P))
    measured = subspaces(states, SURE, EVEN)
    assert measured["directions"] == 2 and measured["overlap"] == pytest.approx(0.5, abs=0.05)
    assert measured["angles"][0] == pytest.approx(0, abs=15) and measured["angles"][1] == pytest.approx(90, abs=15)


def test_random_subspaces_are_at_chance():
    overlaps = []
    for _ in range(200):
        frames = [np.linalg.qr(DRAW.normal(size=(D, 3)))[0] for _ in range(2)]
        states = np.stack([DRAW.normal(size=(P, 3)) @ frames[k].T for k in DOMAIN])
        measured = subspaces(states, SURE, EVEN)
        overlaps.append(measured["overlap"])
    assert np.mean(overlaps) == pytest.approx(3 / D, abs=0.03)


def test_a_domain_counts_by_its_posterior():
    """What is not scored, and what the posterior excludes, changes nothing."""
    states = DRAW.normal(size=(B, P, D))
    weight = EVEN.copy()
    weight[:, 0] = 0
    other = states.copy()
    other[:, 0] += 100
    one, two = (subspaces(of, SURE, weight) for of in (states, other))
    assert one.keys() == two.keys() and all(one[name] == pytest.approx(two[name]) for name in one)

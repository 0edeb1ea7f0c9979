"""Dynamics: the routing law by finite differences, what is planted in a time series, and the series itself."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.composed import tiny
from tests.instruments.planted import subject
from windtunnel.instruments import dynamics
from windtunnel.instruments.dynamics import advantage, correlation, settled_from, timing, value_force, within
from windtunnel.instruments.speed import steps_to_threshold


def test_the_routing_law_by_finite_differences(x64):
    """∂L/∂s_ij = −α_ij A_ij and ∂L/∂v_j = Σ_i α_ij u_i, each score and value moved by hand, in float64."""
    key_s, key_v, key_w = jax.random.split(jax.random.key(0), 3)
    B, N, T, d = 1, 2, 4, 3
    s = jnp.where(jnp.tril(jnp.ones((T, T), bool))[None, None], jax.random.normal(key_s, (B, N, T, T)), -jnp.inf)
    v, w = jax.random.normal(key_v, (B, N, T, d)), jax.random.normal(key_w, (B, N, T, d))

    def loss(s, v):
        return float(jnp.sum(jnp.sin(jax.nn.softmax(s) @ v) * w))

    alpha = jax.nn.softmax(s)
    u = np.asarray(jnp.cos(alpha @ v) * w)
    routed = np.asarray(alpha) * advantage(np.asarray(alpha), u, np.asarray(v))
    pulled = value_force(np.asarray(alpha), u)
    h = 1e-5
    for n, i, j in [(0, 1, 0), (0, 3, 2), (1, 2, 2), (1, 3, 0)]:
        step = h * jnp.zeros_like(s).at[0, n, i, j].set(1.0)
        slope = (loss(s + step, v) - loss(s - step, v)) / (2 * h)
        assert -routed[0, n, i, j] == pytest.approx(slope, rel=1e-6, abs=1e-9)
    for n, j, k in [(0, 0, 0), (1, 2, 1), (1, 3, 2)]:
        step = h * jnp.zeros_like(v).at[0, n, j, k].set(1.0)
        slope = (loss(s, v + step) - loss(s, v - step)) / (2 * h)
        assert pulled[0, n, j, k] == pytest.approx(slope, rel=1e-6, abs=1e-9)


@pytest.fixture(scope="module")
def record():
    return dynamics.measure(subject(tiny("model.heads=2", "train.horizon=12")))


@pytest.mark.slow
def test_the_identities_hold_in_a_model_and_scores_follow_them_better_than_anothers(record):
    assert [(row["layer"], row["head"]) for row in record["heads"]] == [(0, 0), (0, 1)]
    for row in record["heads"]:
        assert row["identity"] < 1e-4
        assert row["routing"] > 0.1 and row["value"] > 0.1, "shared weights let them move this way, more or less"
        assert row["value"] > row["shuffled"]["value"] and row["routing"] > row["shuffled"]["routing"]
    assert record["timing"] is None and len(dynamics.lines(record)) == 2
    assert set(dynamics.headline(record)) == {"routing", "advantage", "value"}


def test_what_moves_alone_follows_its_law_exactly():
    """Without shared weights the correlation is 1."""
    A = np.random.default_rng(0).normal(size=(2, 5, 5))
    assert correlation(within(0.1 * A + 3.0), within(A)) == pytest.approx(1), "a shift of all scores is not seen"
    assert np.isnan(correlation(np.ones(3), np.arange(3.0)))


def test_a_number_is_settled_where_it_stays_near_its_end():
    assert settled_from(np.asarray([0, 0.5, 1.0, 0.98, 1.02, 1.0])) == 2
    assert settled_from(np.asarray([0, 1.0, 0.5, 1.0])) == 3, "coming by is not staying"
    assert settled_from(np.asarray([1.0, 1.0])) == 0


def test_a_frame_that_is_there_before_precision_is_told_from_the_series(tmp_path):
    rows = [{"step": 10 * i, "kl_bits": 2.0**-i, "orthogonality": min(1.0, 0.4 * i), "deviation": 1 - i / 10}
            for i in range(11)]  # fmt: skip
    (tmp_path / "probe.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = timing(tmp_path)
    assert record["settled"] == {"orthogonality": 30, "deviation": 100}
    assert record["kl_left"] == pytest.approx(2.0**7)
    assert timing(None) is None


def test_steps_to_a_threshold_are_those_of_a_mean_over_some_steps():
    step, kl = np.arange(1, 101), 2.0 ** -np.arange(100.0)
    kl[:50] = 1.0
    kl[10] = 0.0  # one lucky batch
    assert steps_to_threshold(step, kl, 0.51) == 60
    assert steps_to_threshold(step, kl + 1, 0.5) is None
    assert steps_to_threshold(2 * step, kl, 0.51) == 2 * 55, "a line of the record may stand for two steps"

"""Bins: 8 an octave, an edge at the horizon, enough samples in each, nothing left out."""

import itertools

import numpy as np
import pytest

from windtunnel.bins import SAMPLES, bins

SIZES = [(64, 64, 64), (64, 8192, 64), (20, 20, 64), (64, 32000, 16), (100, 1700, 10), (1, 500, 300), (333, 1000, 2)]


@pytest.mark.parametrize(("horizon", "length", "examples"), SIZES)
def test_bins_tile_all_positions_with_an_edge_at_the_horizon(horizon, length, examples):
    made = bins(horizon, length, examples).each
    assert made[0].first == 1 and made[-1].last == length
    assert all(after.first == before.last + 1 for before, after in itertools.pairwise(made))
    assert any(b.last == horizon for b in made)
    for b in made:
        assert all(b.first <= one <= b.last for one in b.scored) and list(b.scored) == sorted(set(b.scored))


@pytest.mark.parametrize(("horizon", "length", "examples"), SIZES)
def test_every_bin_holds_enough_samples_or_all_there_are(horizon, length, examples):
    for b in bins(horizon, length, examples).each:
        whole_side = b.last - b.first + 1 == horizon or (b.first == horizon + 1 and b.last == length)
        assert len(b.scored) * examples >= min(SAMPLES, (b.last - b.first + 1) * examples) or whole_side


def test_eight_an_octave_past_the_horizon():
    made = bins(64, 8192, 64).each
    edges = np.asarray([b.last for b in made if b.last >= 64])
    wide = edges[edges >= 256]
    np.testing.assert_allclose(np.diff(np.log2(wide)), 1 / 8, atol=0.01)


def test_far_positions_cost_no_more_than_near_ones():
    assert len(bins(64, 32000, 64).at) < 700

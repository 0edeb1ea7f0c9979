"""Bins: 8 an octave, an edge at the horizon, enough observations in each, nothing left out."""

import itertools

import numpy as np
import pytest

from windtunnel.bins import FEWEST, bins

SIZES = [(64, 64), (64, 8192), (20, 20), (64, 32000), (100, 1700), (1, 500), (333, 1000)]


@pytest.mark.parametrize(("horizon", "length"), SIZES)
def test_bins_tile_all_positions_with_an_edge_at_the_horizon(horizon, length):
    made = bins(horizon, length).each
    assert made[0].first == 1 and made[-1].last == length
    assert all(after.first == before.last + 1 for before, after in itertools.pairwise(made))
    assert any(b.last == horizon for b in made)
    for b in made:
        assert all(b.first <= one <= b.last for one in b.scored) and list(b.scored) == sorted(set(b.scored))


@pytest.mark.parametrize(("horizon", "length"), SIZES)
def test_every_bin_has_enough_observations_or_all_there_are(horizon, length):
    for b in bins(horizon, length).each:
        whole_side = b.last - b.first + 1 == horizon or (b.first == horizon + 1 and b.last == length)
        assert len(b.scored) >= min(FEWEST, b.last - b.first + 1) or whole_side


def test_eight_an_octave_past_the_horizon():
    made = bins(64, 8192).each
    edges = np.asarray([b.last for b in made if b.last >= 64])
    wide = edges[edges >= 256]
    np.testing.assert_allclose(np.diff(np.log2(wide)), 1 / 8, atol=0.01)


def test_far_positions_cost_no_more_than_near_ones():
    assert len(bins(64, 32000).at) < 700

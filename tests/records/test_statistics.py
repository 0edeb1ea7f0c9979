"""Intervals over seeds and censored medians."""

import math

import numpy as np
import pytest
from scipy import stats

from windtunnel.records.statistics import interval, mean_interval, median_censored


def test_a_few_seeds_give_a_t_interval_of_the_logarithm():
    values = [1e-4, 3e-4, 2e-4, 5e-4]
    logs = np.log(values)
    low, high = stats.t.interval(0.95, 3, loc=logs.mean(), scale=stats.sem(logs))
    result = interval(values)
    assert (result.low, result.high) == (pytest.approx(math.exp(low)), pytest.approx(math.exp(high)))
    assert result.mean == pytest.approx(stats.gmean(values)) and result.n == 4


def test_many_seeds_give_a_bootstrap():
    values = np.exp(np.random.default_rng(0).normal(size=40))
    result = interval(values)
    expected = stats.bootstrap((np.log(values),), np.mean, rng=1, method="BCa").confidence_interval
    assert result.low == pytest.approx(math.exp(expected.low), rel=0.02)
    assert result.high == pytest.approx(math.exp(expected.high), rel=0.02)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_below_three_seeds_there_is_no_interval(n):
    assert math.isnan(interval([1e-3] * n).low)


@pytest.mark.parametrize("n", [5, 8, 20])
def test_intervals_cover(n):
    """Of 1,000 sets of n seeds from a log-normal, 95 % ± 2 % of intervals hold the true geometric mean of 1."""
    generator = np.random.default_rng(1)
    intervals = [interval(np.exp(generator.normal(size=n))) for _ in range(1000)]
    assert 0.93 < np.mean([covered.low < 1 < covered.high for covered in intervals]) < 0.97


def test_median_of_censored_lengths():
    """The median with its range: what three seeds reach is not said of one that stops at 4."""
    result = median_censored([4.0, 128.0, 500.0], [False, False, True])
    assert result == ((128.0, False), (4.0, False), (500.0, True), 1, 3)
    assert median_censored([64.0, 500.0, 500.0], [False, True, True]).median == (500.0, True)
    failing = median_censored([None, None, 64.0], [None, None, False])
    assert failing.median == (None, False) and failing.longest == (64.0, False)
    assert median_censored([], []).median == (None, False)


def test_arithmetic_means_have_a_t_interval_of_any_size():
    for n in (3, 5, 12):
        values = np.random.default_rng(n).normal(size=n)
        low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
        result = mean_interval(list(values))
        assert (result.low, result.high) == (pytest.approx(low), pytest.approx(high))
    assert math.isnan(mean_interval([1.0, 2.0]).low)

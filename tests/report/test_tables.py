"""What tables print."""

import math

import pytest

from windtunnel.report.tables import length, number, shown
from windtunnel.statistics import interval


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (math.nan, ""),
        (0.0, "0"),
        (-4e-10, "0"),
        (1e-300, "0"),
        (6.14e-4, "6.1e-4"),
        (0.0351, "0.035"),
        (0.5, "0.50"),
        (2.34, "2.3"),
        (41.2, "41"),
        (-0.5, "-0.50"),
    ],
)
def test_two_digits_whatever_the_size(value, text):
    assert number(value) == text


def test_an_interval_that_reaches_zero_has_no_absurd_exponent():
    assert shown(interval([0.0])) == "0"
    assert shown(interval([0.01, 0.01, 0.01])) == "0.010 [0.010, 0.010]"


def test_a_censored_length_says_so():
    assert (length(None, False), length(128, True), length(8192, True)) == ("–", "≥ 128", "≥ 8192")

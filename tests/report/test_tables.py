"""What tables print."""

import math

import pytest

from windtunnel.records.groups import Group
from windtunnel.records.statistics import interval
from windtunnel.report.numbers import length, lengths, number, with_interval
from windtunnel.report.tables import attention


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
    assert with_interval(interval([0.0])) == "0"
    assert with_interval(interval([0.01, 0.01, 0.01])) == "0.010 [0.010, 0.010]"


def test_a_censored_length_says_so():
    assert (length(None, False), length(128, True), length(8192, True)) == ("–", "≥ 128", "≥ 8192")


@pytest.mark.parametrize(
    ("ratios", "censored", "text"),
    [
        ([2.0, 8.0, 4.0], [False] * 3, "4 [2, 8]"),
        ([2.0, 8.0], [False] * 2, "2 [2, 8]"),
        ([2.0, 500.0, 500.0], [False, True, True], "≥ 500 [2, ≥ 500] (2 of 3)"),
        ([500.0, 2.0, 4.0], [True, False, False], "4 [2, ≥ 500] (1 of 3)"),
        ([None, None, 4.0], [None, None, False], "– [–, 4]"),
        ([500.0] * 3, [True] * 3, "≥ 500 (3 of 3)"),
    ],
)
def test_a_length_over_seeds_is_a_median_with_its_range_and_a_count_of_what_is_censored(ratios, censored, text):
    rows = [
        {"status": "done", "extrapolation_ratio": value, "censored": flag}
        for value, flag in zip(ratios, censored, strict=True)
    ]
    assert lengths(Group({}, rows), "extrapolation_ratio") == text


def test_a_verdict_says_what_is_not_plain_about_attention():
    read = {"kernel": "blocked", "skipped_blocks": 0.0, "skipped_mass_bound": 0.0}
    assert attention({"softmax": "plain", "attention": [read]}) == attention({"softmax": None}) == []
    assert attention({"softmax": "scalable_inside", "attention": [read]}) == ["scalable softmax, prior inside"]
    skipped = [read, {**read, "skipped_blocks": 0.97, "skipped_mass_bound": 9e-7}]
    assert "0%, 97% of its blocks, which hold at most 9.0e-07" in attention({"attention": skipped})[0]
    audited = {
        "kernel": "sparse",
        "skipped_blocks": 0.5,
        "skipped_mass_bound": None,
        "certificates": {"audit_missed_bound": 0.0123},
    }
    assert attention({"attention": [audited]}) == [
        "attention skipped 50% of its blocks",
        "attention is sparse",
        "audited: attention misses at most 1.2% of its mass on average (95 %)",
    ]
    why = "whole (not fused: it takes half precision, not float32)"
    assert attention({"attention": [{**read, "kernel": why}] * 2}) == [f"attention {why}"]

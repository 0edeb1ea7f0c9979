"""Two groups held against each other, by an enumeration that shares nothing with the code."""

import itertools

import numpy as np
import pytest

from tests.report.made import kl, sweep
from windtunnel.records.groups import Group, gather
from windtunnel.report.comparison import chosen, compare, sentence


def two_groups(tmp_path, a, b):
    return gather([sweep(tmp_path / "a", {"bam": kl(*a), "rope": kl(*b)})])


def test_paired_over_all_swaps_within_pairs(tmp_path):
    a, b = (0.010, 0.012, 0.020, 0.015, 0.011), (0.013, 0.011, 0.029, 0.019, 0.014)
    result = compare(*two_groups(tmp_path, a, b), "kl_bits")
    difference = np.subtract(a, b)
    every = [np.mean(difference * signs) for signs in itertools.product((1, -1), repeat=5)]
    assert result.p == pytest.approx(np.mean([abs(mean) >= abs(difference.mean()) - 1e-12 for mean in every]))
    assert (result.paired, result.n, result.least) == (True, 5, 2 / 32)
    half = 2.7764451 * difference.std(ddof=1) / np.sqrt(5)
    assert (result.effect, result.low, result.high) == pytest.approx(
        (difference.mean(), difference.mean() - half, difference.mean() + half)
    )


def test_unpaired_over_all_ways_to_share_them_out(tmp_path):
    a, b = (0.010, 0.012, 0.020), (0.013, 0.021, 0.029, 0.019)
    result = compare(*two_groups(tmp_path, a, b), "kl_bits")
    pooled = np.asarray(a + b)
    every = []
    for subset in itertools.combinations(range(7), 3):
        rest = [i for i in range(7) if i not in subset]
        every.append(pooled[list(subset)].mean() - pooled[rest].mean())
    effect = np.mean(a) - np.mean(b)
    low, high = np.mean(np.asarray(every) <= effect + 1e-12), np.mean(np.asarray(every) >= effect - 1e-12)
    assert result.p == pytest.approx(min(1, 2 * min(low, high)))
    assert not result.paired and (result.n, result.m) == (3, 4)


def test_no_p_is_below_what_so_few_seeds_can_give(tmp_path):
    """However far apart: three pairs have eight swaps, and two of them are as extreme as what was seen."""
    a, b = two_groups(tmp_path, (1e-6, 2e-6, 3e-6), (1.0, 1.1, 1.2))
    assert compare(a, b, "kl_bits").p == compare(a, b, "kl_bits").least == 0.25
    text = sentence(a, b, "kl_bits", "KL in range")
    assert text.startswith(
        "KL in range: bam is 1.1 bits below rope [0.85, 1.3], p = 0.25 (permutation test, 3 pairs of seeds"
    )
    assert "0.25 is the least so few can give" in text
    assert sentence(b, a, "kl_bits", "KL").startswith("KL: rope is 1.1 bits above bam [0.85, 1.3]")


def test_one_study_is_no_group_to_compare(tmp_path):
    a, b = two_groups(tmp_path, (1.0,), (2.0,))
    assert compare(a, b, "kl_bits") is None and "fewer than 2 studies" in sentence(a, b, "kl_bits", "KL")


def test_groups_are_named_in_full_or_by_what_only_one_has():
    groups = [Group({"position": p, "noise": n}, []) for p, n in (("bam", "0.1"), ("bam", "0.2"), ("rope", "0.1"))]
    assert chosen(groups, "bam 0.2,rope") == (groups[1], groups[2])

"""Two groups compared: by how many bits one is nearer to the exact posterior, and whether that can be chance."""

import math
from typing import NamedTuple

import numpy as np

from windtunnel.errors import BadInput
from windtunnel.records.groups import Group
from windtunnel.report.numbers import number

EXACT = 100_000  # up to so many permutations, all are computed


class Comparison(NamedTuple):
    """a − b in the metric's unit, with its 95 % interval (NaN below 3 studies), and p of a two-sided permutation test.

    `paired`: n pairs of studies of the same seed; otherwise n studies of a and m of b. `least`: the smallest p that so
    few studies can give.
    """

    effect: float
    low: float
    high: float
    p: float
    least: float
    paired: bool
    n: int
    m: int


def compare(a: Group, b: Group, metric: str) -> Comparison | None:
    """Compare two groups, in pairs if every study has a partner of its seed. None if either has fewer than 2 studies.

    The statistic is the difference of means, in bits. If there are at most 100,000 permutations, all are computed: the
    2ⁿ swaps within pairs, or the (n+m choose n) ways to divide the studies into two groups.
    """
    from scipy import stats

    of_a, of_b = (
        {str(row["seed"]): row[metric] for row in group.done if row.get(metric) is not None} for group in (a, b)
    )
    x, y = (np.asarray(list(of.values()), float) for of in (of_a, of_b))
    if min(len(x), len(y)) < 2:
        return None
    unique = all(len(of) == len(group.done) for of, group in ((of_a, a), (of_b, b)))
    paired = unique and set(of_a) == set(of_b)
    if paired:
        y = np.asarray([of_b[seed] for seed in of_a])
        ways, kind = 2 ** len(x), "samples"
        test = stats.ttest_rel(x, y)
    else:
        ways, kind = math.comb(len(x) + len(y), len(x)), "independent"
        test = stats.ttest_ind(x, y, equal_var=False)
    permuted = stats.permutation_test(
        (x, y),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        permutation_type=kind,
        vectorized=True,
        n_resamples=EXACT,
        rng=0,
    )
    low, high = test.confidence_interval() if min(len(x), len(y)) > 2 else (math.nan, math.nan)
    effect = float(x.mean() - y.mean())
    return Comparison(effect, float(low), float(high), float(permuted.pvalue), 2 / ways, paired, len(x), len(y))


def sentence(a: Group, b: Group, metric: str, label: str) -> str:
    """`KL past: bam is 0.045 bits below alibi [0.042, 0.048], p = 0.25 (3 pairs of seeds; least possible 0.25)`"""
    difference = compare(a, b, metric)
    if difference is None:
        return f"{label}: {a.name} and {b.name} cannot be compared with fewer than 2 studies each"
    side = "below" if difference.effect < 0 else "above"
    ends = sorted(
        abs(end) if difference.low * difference.high > 0 else end * np.sign(difference.effect)
        for end in (difference.low, difference.high)
    )
    spread = "" if math.isnan(difference.low) else f" [{number(ends[0])}, {number(ends[1])}]"
    count = (
        f"{difference.n} pairs of seeds"
        if difference.paired
        else f"{difference.n} and {difference.m} studies, unpaired"
    )
    least = (
        f"; {difference.least:.2g} is the least so few can give"
        if difference.p < 2 * difference.least and difference.p > 0.01
        else ""
    )
    return (
        f"{label}: {a.name} is {number(abs(difference.effect))} bits {side} {b.name}{spread}, "
        f"p = {difference.p:.2g} (permutation test, {count}{least})"
    )


def chosen(groups: list[Group], names: str) -> tuple[Group, Group]:
    """The two groups that `A,B` names."""
    parts = [part.strip() for part in names.split(",")]
    if len(parts) != 2:
        raise BadInput(f"--compare={names}: should be two groups, as in --compare {groups[0].name},{groups[-1].name}")
    pair = []
    for part in parts:
        fit = [group for group in groups if group.name == part] or [g for g in groups if part in g.key.values()]
        if len(fit) != 1:
            reason = "more than one group has it" if fit else "no such group"
            raise BadInput(f"--compare={names}: {part}: {reason}; valid: {', '.join(group.name for group in groups)}")
        pair.append(fit[0])
    return pair[0], pair[1]

"""Two groups held against each other: by how many bits one is nearer to the exact, and whether that is chance."""

import math
from typing import NamedTuple

import numpy as np

from windtunnel.errors import BadInput
from windtunnel.records.groups import Group
from windtunnel.report.numbers import number

EXACT = 100_000  # permutations up to which all are gone through


class Comparison(NamedTuple):
    """a − b in the metric's unit, with its 95 % interval (NaN below 3), and p of a two-sided permutation test.

    `paired`: n pairs of studies that agree in their seed; else n of a and m of b. `least`: the smallest p that so few
    studies can give.
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
    """Paired where every study of both has a partner of its seed. Nothing where either has fewer than 2 studies.

    The statistic is the difference of means, in bits. All permutations where there are at most 100,000: the 2ⁿ swaps
    within pairs, or the (n+m choose n) ways to share the studies out.
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
    found = compare(a, b, metric)
    if found is None:
        return f"{label}: {a.name} and {b.name} cannot be compared with fewer than 2 studies each"
    side = "below" if found.effect < 0 else "above"
    ends = sorted(
        abs(end) if found.low * found.high > 0 else end * np.sign(found.effect) for end in (found.low, found.high)
    )
    spread = "" if math.isnan(found.low) else f" [{number(ends[0])}, {number(ends[1])}]"
    count = f"{found.n} pairs of seeds" if found.paired else f"{found.n} and {found.m} studies, unpaired"
    least = f"; {found.least:.2g} is the least so few can give" if found.p < 2 * found.least and found.p > 0.01 else ""
    return (
        f"{label}: {a.name} is {number(abs(found.effect))} bits {side} {b.name}{spread}, "
        f"p = {found.p:.2g} (permutation test, {count}{least})"
    )


def chosen(groups: list[Group], names: str) -> tuple[Group, Group]:
    """The two groups that `A,B` names."""
    parts = [part.strip() for part in names.split(",")]
    if len(parts) != 2:
        raise BadInput(f"--compare={names}: should be two groups, as in --compare {groups[0].name},{groups[-1].name}")
    found = []
    for part in parts:
        fit = [group for group in groups if group.name == part] or [g for g in groups if part in g.key.values()]
        if len(fit) != 1:
            said = "more than one group has it" if fit else "no such group"
            raise BadInput(f"--compare={names}: {part}: {said}; valid: {', '.join(group.name for group in groups)}")
        found.append(fit[0])
    return found[0], found[1]

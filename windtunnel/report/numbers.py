"""Numbers as text."""

import math

from windtunnel.records.groups import Group
from windtunnel.records.statistics import Interval

TINY = 1e-8  # bits


def number(value: float | None) -> str:
    """`6.1e-4`, `0.035`, `2.3`, `41`; `0` for what float32 cannot distinguish from zero; nothing for NaN and None"""
    if value is None or math.isnan(value):
        return ""
    if abs(value) < TINY:
        return "0"
    if abs(value) < 0.00995:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:#.2g}" if abs(value) < 9.95 else f"{value:.0f}"


def plus_minus(value: float | None, error: float | None) -> str:
    return "" if value is None else f"{number(value)} ± {number(error)}"


def with_interval(interval: Interval, between: str = " ") -> str:
    """`6.1e-4 [5.2e-4, 7.3e-4]`"""
    mean = number(interval.mean)
    if math.isnan(interval.low):
        return mean
    return f"{mean}{between}[{number(interval.low)}, {number(interval.high)}]"


def length(value: float | None, censored: bool) -> str:
    if value is None:
        return "–"
    return f"{'≥ ' if censored else ''}{f'{value:.3g}' if value < 1000 else f'{value:.0f}'}"


def lengths(group: Group, metric: str, between: str = " ") -> str:
    """`82 [76, 90]`: the median over seeds and their range. If some are censored, also how many: `≥ 128 (3 of 3)`."""
    median = group.median(metric)
    text = length(*median.median)
    if median.shortest != median.longest:
        text += f"{between}[{length(*median.shortest)}, {length(*median.longest)}]"
    return text + (f"{between}({median.censored} of {median.n})" if median.censored else "")

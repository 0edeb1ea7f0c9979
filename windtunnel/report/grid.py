"""A table of groups before it has a format: its columns, and the text of every cell."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from windtunnel.errors import BadInput, no_such
from windtunnel.records.groups import CENSORED, Group, best, value
from windtunnel.report.answer import about_recovery
from windtunnel.report.numbers import lengths, number, with_interval

RECOVERED = {
    "beta": "learned β",
    "scale": "scale",
    "kl_bits": "prior KL",
    "kl_bits_tempered": "tempered",
    "sharpness": "c",
}
CAPTION = "KL in bits: geometric mean [95 % interval] over seeds; lengths: median and range"


class Column(NamedTuple):
    """A column that shows `metric`. `text(group, between)` is a cell, with `between` between a mean and its
    interval.
    """

    label: str
    text: Callable[[Group, str], str]
    metric: str | None = None
    wide: bool = False  # left out in a narrow terminal


class Grid(NamedTuple):
    title: str
    groups: list[Group]
    columns: list[Column]
    notes: list[str]

    def best(self, column: Column) -> list[Group]:
        return best(self.groups, column.metric) if column.metric else []


def grid(title: str, groups: list[Group], swept: list[str], metrics: list[str] | None = None) -> Grid:
    """The table of these groups: with columns for the named `metrics`, or for those that the groups have values of."""
    over = looked_past(groups, swept)
    seeds = Column("studies" if over else "seeds", counted, wide=True)
    verdict = Column("verdict", lambda group, _: group.verdict)
    chosen = [_column(metric, metric) for metric in metrics] if metrics else _chosen(groups)
    for metric in metrics or []:
        known = [key for group in groups for row in group.done for key in row if _is_number(row[key])]
        if metric not in known:
            raise BadInput(f"--metric={metric}: {no_such(metric, list(dict.fromkeys(known)))}")
    if not metrics and about_recovery(groups):
        verdict = verdict._replace(wide=True)
    return Grid(title, groups, [seeds, *chosen, verdict], notes(groups, over))


def _chosen(groups: list[Group]) -> list[Column]:
    rows = [row for group in groups for row in group.done]

    def any_has(metric: str) -> bool:
        return any(row.get(metric) is not None for row in rows)

    columns = [_column("KL in range", "kl_bits")]
    if any_has("kl_bits_full"):
        columns = []
    if about_recovery(groups):
        columns += [_column(label, f"recovered_{name}", brief=name != "beta") for name, label in RECOVERED.items()]
    elif any_has("kl_bits_past"):
        columns += [
            _column("KL past", "kl_bits_past"),
            Column(
                "headroom", lambda group, _: number(group.interval("headroom_bits_past").mean), "headroom_bits_past"
            ),
            _column("critical length", "critical_length")._replace(wide=True),
            _column("ratio", "extrapolation_ratio"),
        ]
    if any_has("other_mass"):
        columns.append(
            Column("other mass", lambda group, _: number(group.interval("other_mass").mean), "other_mass", wide=True)
        )
    if any_has("kl_bits_full"):
        columns += [_column("KL to the pool", "kl_bits"), _column("KL to the prior", "kl_bits_full")]
    return columns


def _column(label: str, metric: str, brief: bool = False) -> Column:
    """`brief`: where it is narrow, the mean alone."""
    if metric in CENSORED:
        return Column(label, lambda group, between: lengths(group, metric, between), metric)

    def text(group: Group, between: str) -> str:
        interval = group.interval(metric)
        return number(interval.mean) if brief and between == "\n" else with_interval(interval, between)

    return Column(label, text, metric)


def counted(group: Group, _: str = "") -> str:
    """`3`, or `2 of 3`"""
    done = len(group.done)
    return str(done) if done == len(group.rows) else f"{done} of {len(group.rows)}"


def looked_past(groups: list[Group], swept: list[str]) -> list[str]:
    """The swept keys, beside the seed, in which the studies of one group differ: a mean over the group ignores them."""

    def differs(key: str) -> bool:
        return any(len({value(row, key) for row in group.rows}) > 1 for group in groups)

    return [key for key in swept if key != "seed" and differs(key)]


def notes(groups: list[Group], over: list[str]) -> list[str]:
    """What a reader of the table must know: units, missing studies, and what the means are taken over."""
    lines = [CAPTION]
    if about_recovery(groups):
        lines[0] += "; prior KL: true ‖ learned; tempered: what is left at the best sharpness c"
    missing: dict[str, int] = {}
    for group in groups:
        for state, count in group.missing.items():
            missing[state] = missing.get(state, 0) + count
    total = sum(len(group.rows) for group in groups)
    lines += [f"of {total} studies {', '.join(f'{n} {state}' for state, n in missing.items())}"] if missing else []
    mixed = [group.name for group in groups if len(group.problem) > 1 and not over]
    lines += [f"judged in different ways, over which no mean says much: {', '.join(mixed)}"] if mixed else []
    return lines + ([f"each row is over all of {', '.join(over)}"] if over else [])


def _is_number(entry: Any) -> bool:
    return isinstance(entry, (int, float)) and not isinstance(entry, bool)


def numbers(group: Group, metric: str) -> dict[str, float | int | None]:
    """The values of a metric in a file: mean and interval; for a length that may be censored its median, its range
    over seeds, and how many are censored.
    """
    if metric in CENSORED:
        median = group.median(metric)
        ends = {metric: median.median, f"{metric}_least": median.shortest, f"{metric}_most": median.longest}
        return {**{name: end.value for name, end in ends.items()}, f"{metric}_censored": group.censored}
    interval = group.interval(metric)
    ends = {metric: interval.mean, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
    return {name: None if math.isnan(end) else end for name, end in ends.items()}

"""Records put together over seeds."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from windtunnel import records
from windtunnel.errors import BadInput, no_such
from windtunnel.records.statistics import Interval, Median, interval, median_censored
from windtunnel.records.twins import MARK, is_twin

Row = dict[str, Any]
CENSORED = ("critical_length", "extrapolation_ratio")  # a median and a count, where some are only lower bounds


class Group(NamedTuple):
    """Studies that differ in nothing but their seed (or in what the reader chose to look past)."""

    key: dict[str, str]
    rows: list[Row]

    @property
    def name(self) -> str:
        return " ".join(value for value in self.key.values() if value)

    @property
    def done(self) -> list[Row]:
        return [row for row in self.rows if row["status"] == "done"]

    @property
    def missing(self) -> dict[str, int]:
        """How many studies are not done: {"failed": 1, "waiting": 2}"""
        states = [row["status"] for row in self.rows if row["status"] != "done"]
        return {state: states.count(state) for state in sorted(set(states))}

    def interval(self, metric: str) -> Interval:
        return interval([row[metric] for row in self.done if row.get(metric) is not None])

    def bounds(self, metric: str) -> tuple[float, float]:
        """The ends of the 95 % interval; of lengths from the shortest seed to the longest. NaN: unknown."""
        if metric not in CENSORED:
            return self.interval(metric)[1:3]
        if len(self.done) < 3:
            return math.nan, math.nan
        shortest, longest = self.median(metric)[1:3]
        return shortest.value or 0.0, math.inf if longest.censored else longest.value or 0.0

    def median(self, metric: str) -> Median:
        """Of a length that may be censored, with the shortest and the longest of its seeds."""
        return median_censored([row[metric] for row in self.done], [row["censored"] for row in self.done])

    @property
    def censored(self) -> int:
        """In how many studies every bin up to the reach holds."""
        return sum(bool(row["censored"]) for row in self.done)

    @property
    def verdict(self) -> str:
        """The verdict of its studies, each with its count where they differ."""
        words = [in_words(row) for row in self.done] + [row["status"] for row in self.rows if row["status"] != "done"]
        kinds = sorted(set(words), key=words.index)
        return kinds[0] if len(kinds) == 1 else ", ".join(f"{words.count(kind)} {kind}" for kind in kinds)

    @property
    def problem(self) -> frozenset[str]:
        """On which data, and how, its studies were judged: only groups that agree in it can be compared. The size of
        a hypothesis space can be typed in two ways, and the facts of a study have it in one.
        """
        return frozenset(json.dumps([row["evaluate"], _asked(row)], sort_keys=True) for row in self.done)


def in_words(row: Row) -> str:
    """The verdict of a study, and whether twice the steps of its twin made it much better: then more would again."""
    return row["verdict"] + ("; undertrained" if row.get("undertrained") else "")


def swept_keys(*roots: Path) -> list[str]:
    """What was swept, in order of appearance; of models from outside also that in which their problems differ."""
    every = [given for root in roots for given in records.overrides(root).values() if MARK not in given]
    typed = list(dict.fromkeys(key for overrides in every for key in overrides))
    return [*typed, *(key for key in _differing_problems(roots) if key not in typed)] or _differing(roots)


def _differing_problems(roots: tuple[Path, ...]) -> list[str]:
    """The keys in which the problems of models from outside differ: a folder of these holds models for any problem."""
    loose = [root for root in roots if not (root / "sweep.json").exists()]
    rows = [row for root in loose for row in records.rows(root) if "external" in row]
    keys = dict.fromkeys(key for row in rows for key in ("tunnel", *_asked(row), "reach"))
    return [key for key in keys if len({value(row, key) for row in rows}) > 1 and key != "tunnel.name"]


def _asked(row: Row) -> Row:
    """The fields of a study's tunnel and its horizon, but for those that are null."""
    keys = [key for key in row if key.startswith("tunnel.") and key != "tunnel.hypotheses"]
    fields = {key: value(row, key) for key in [*keys, "hypotheses", "horizon"]}
    return {key: field for key, field in fields.items() if field}


def _differing(roots: tuple[Path, ...]) -> list[str]:
    """Of studies that were run one by one: the names and fields in which they differ, but for how they are judged."""
    rows = [row for root in roots for row in records.rows(root) if row["status"] != "damaged"]
    fields = [key for key in rows[0] if "." in key and all(key in row for row in rows)] if rows else []
    chosen = [key for key in fields if not key.endswith(".name") and not key.startswith("evaluate.")]
    return [key for key in [*NAMES, *chosen] if len({value(row, key) for row in rows}) > 1]


def gather(folders: list[Path], by: list[str] | None = None) -> list[Group]:
    """The groups of one or more folders: by what was swept in any of them, or by the columns that are named.

    Of several folders each is told apart by the column `sweep`, and groups of the same point follow one another.
    """
    labels = [folder.name for folder in folders]
    labels = labels if len(set(labels)) == len(labels) else [str(folder) for folder in folders]
    pairs = zip(labels, folders, strict=True)
    rows = [{"sweep": label, **row} for label, root in pairs for row in records.rows(root) if not is_twin(row)]
    for name in by or []:
        if not any(value(row, name) for row in rows):
            known = dict.fromkeys(key for row in rows for key in row if key in PLAIN or "." in key)
            raise BadInput(
                f"--by={name}: {no_such(name, [key for key in known if any(value(row, key) for row in rows)])}"
            )
    many = ["sweep"] if len(folders) > 1 else []
    return groups(rows, by or [*swept_keys(*folders), *many])


NAMES = ("tunnel", "prior", "position", "model")
PLAIN = "sweep tunnel hypotheses noise prior position model softmax supervision seed horizon steps verdict".split()


def groups(rows: list[Row], keys: list[str]) -> list[Group]:
    """Group by every key but the seed: numbers ascending, names in order of appearance."""
    by_key: dict[tuple[str, ...], Group] = {}
    keys = [key for key in keys if key != "seed"] or ["tunnel"]
    for row in rows:
        key = {name: value(row, name) for name in keys}
        by_key.setdefault(tuple(key.values()), Group(key, [])).rows.append(row)
    places = {name: _order([group.key[name] for group in by_key.values()]) for name in keys}
    return sorted(by_key.values(), key=lambda group: [places[name][group.key[name]] for name in keys])


def value(row: Row, name: str) -> str:
    """What a row says under a name; numbers are written in one way, wherever they come from."""
    entry = row.get(name, row.get(name.rpartition(".")[2]))
    if entry is None or entry == "null" or isinstance(entry, (dict, list)):
        return ""
    if isinstance(entry, bool):
        return str(entry).lower()
    number = _number(str(entry))
    return (
        str(entry)
        if number is None
        else f"{number:.0f}"
        if number.is_integer() and abs(number) < 1e15
        else f"{number!r}"
    )


def _order(values: list[str]) -> dict[str, int]:
    unique = list(dict.fromkeys(values))
    numbers = [_number(value) for value in unique]
    if None not in numbers:
        unique = [value for _, value in sorted(zip(numbers, unique, strict=True))]
    return {value: place for place, value in enumerate(unique)}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def best(groups: list[Group], metric: str) -> list[Group]:
    """Of the groups that answer the same problem, the one whose interval lies wholly on the better side of all others;
    none where intervals overlap, where one has none, or where neither more nor less is better.
    """
    sign = better(metric)
    winners = []
    for problem in {group.problem for group in groups if group.done} if sign else ():
        alike = [group for group in groups if group.problem == problem]
        ends = [sorted(sign * bound for bound in group.bounds(metric)) for group in alike]  # the larger, the better
        if len(alike) > 1 and not any(math.isnan(bound) for pair in ends for bound in pair):
            first = max(range(len(alike)), key=lambda i: ends[i])
            if all(ends[first][0] > pair[1] for i, pair in enumerate(ends) if i != first):
                winners.append(alike[first])
    return winners


def better(metric: str) -> int:
    """−1 where less is better, 1 where more is, 0 where neither."""
    more = {*CENSORED, "equivalent_memory", "tokens_per_second"}
    less = {"kl_bits", "js_bits", "tv", "entropy_gap_bits", "impossible_mass", "kl_bits_pool", "kl_bits_full"}
    seconds = {"train_seconds", "compile_seconds"}
    recovered = {"recovered_kl_bits", "recovered_kl_bits_tempered"}
    return 1 if metric in more else -1 if metric.removesuffix("_past") in less | seconds | recovered else 0

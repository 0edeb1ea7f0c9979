"""The folder of a sweep. A folder holds the records of one sweep, and refuses another."""

import shlex
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from windtunnel import records
from windtunnel.config import Study, study_id
from windtunnel.errors import BadInput
from windtunnel.records.claims import locked
from windtunnel.records.twins import MARK
from windtunnel.spec import plain
from windtunnel.sweep.packs import group
from windtunnel.sweep.point import Point


def numbered(root: Path) -> list[Path]:
    """`root` and the existing folders that `--force` began after it: `smoke`, `smoke-2`, `smoke-3`, …"""
    folders = [root]
    for number in count(2):
        following = root.with_name(f"{root.name}-{number}")
        if not following.exists():
            return folders
        folders.append(following)
    raise AssertionError


def folder_for(root: Path, studies: list[Study], fixed: dict[str, Any] | None, force: bool) -> Path:
    """The folder for these studies: with `force` a new one, else the newest that is empty or holds the same sweep.

    `fixed` is what all points of a sweep share. It is None for a single study, whose folder is the newest that holds
    this study. If every folder holds another sweep, `BadInput` names the difference from the newest.
    """
    folders = numbered(root)
    if force:
        return root.with_name(f"{root.name}-{len(folders) + 1}") if root.exists() else root
    if fixed is None:
        return next((folder for folder in reversed(folders) if (folder / study_id(studies[0])).exists()), root)
    differing = {folder: difference(folder, studies, fixed) for folder in folders}
    same = [folder for folder in folders if differing[folder] is None]
    if not same:
        raise BadInput(
            f"{differing[folders[-1]]}; --force starts afresh in {root.name}-{len(folders) + 1}, or give another runs=…"
        )
    return same[-1]


def difference(root: Path, studies: list[Study], fixed: dict[str, Any]) -> str | None:
    """How the sweep in a folder differs from this one in what is not swept; None where it does not differ."""
    before = records.sweep(root)
    if before is None:
        return None
    for key in sorted(set(fixed) & set(before["fixed"])):
        if fixed[key] != before["fixed"][key]:
            return f"{key}={fixed[key]}: {root} holds a sweep with {key}={before['fixed'][key]}"
    swept = sorted(set(before["fixed"]) - set(fixed))
    if swept and not {point["study_id"] for point in before["points"]} <= {study_id(study) for study in studies}:
        return f"{swept[0]}: is swept here; {root} holds a sweep with {swept[0]}={before['fixed'][swept[0]]}"
    return None


def fixed_part(studies: list[Study]) -> dict[str, Any]:
    """What all studies of a sweep share, as dotted keys."""
    flat = [records.flatten(plain(study)) for study in studies]
    return {key: value for key, value in flat[0].items() if all(other.get(key, ...) == value for other in flat)}


def swept(root: Path, studies: list[Study], overrides: list[dict[str, str]]) -> list[Point]:
    """The points: each study with the value of every key that is swept now or was swept by earlier calls."""
    varying = [key for key in overrides[0] if len({given[key] for given in overrides}) > 1]
    known = records.sweep(root) or {"points": []}
    before = [point["overrides"] for point in known["points"]]
    keys = list(dict.fromkeys([*varying, *(key for given in before for key in given)]))
    points = []
    for study, given in zip(studies, overrides, strict=True):
        known = {**{key: str(value) for key, value in records.flatten(plain(study)).items()}, **given}
        points.append(Point(study, {key: known[key] for key in keys if key in known}))
    return points


def twins(points: list[Point]) -> list[Point]:
    """Every study again with half the steps and its own schedule, except those that the sweep already has."""
    halves: dict[str, Point] = {}
    for point in points:
        steps = point.study.train.steps
        if steps % 2:
            raise BadInput(f"train.steps={steps}: has no half for +twin=half; give an even number")
        study = replace(point.study, train=replace(point.study.train, steps=steps // 2))
        halves.setdefault(study_id(study), Point(study, {**point.overrides, MARK: "half"}))
    return [twin for name, twin in halves.items() if name not in {point.id for point in points}]


def write_sweep(root: Path, points: list[Point], fixed: dict[str, Any], question: str | None = None) -> None:
    """`sweep.json`: the question, the commands, all points (of earlier calls too), the packs, the fixed part."""
    # A run that was started from Python has no command.
    typed = [shlex.join(["windtunnel", "run", *sys.argv[1:]])] if sys.argv[0] == "windtunnel" else []
    with locked(root):
        differs = difference(root, [point.study for point in points], fixed)
        if differs:  # another process wrote its sweep here after we chose the folder
            raise BadInput(differs)
        path = root / "sweep.json"
        before = records.sweep(root) or {"points": [], "fixed": fixed}
        if "damage" in before:
            print(f"windtunnel: {root}: damaged, {before['damage']}; written again from its studies", file=sys.stderr)
            records.set_aside(path)
            before["fixed"] = before["fixed"] or fixed
        rows = {point["study_id"]: point for point in before["points"]}
        rows |= {point.id: {"study_id": point.id, "overrides": point.overrides} for point in points}
        packs = [[points[i].id for i in pack] for pack in group([point.study for point in points])]
        shared = {key: value for key, value in fixed.items() if before["fixed"].get(key, ...) == value}
        commands = list(dict.fromkeys([*before.get("commands", []), *typed]))
        asked = {"question": question, "commands": commands}
        records.write_json(path, {**asked, "points": list(rows.values()), "packs": packs, "fixed": shared})

"""From points to verdicts: everything is validated and written down before anything trains."""

import sys
from pathlib import Path
from typing import Any

from windtunnel import checkpoint, records
from windtunnel.config import Settings, plain, study
from windtunnel.errors import BadInput
from windtunnel.progress import Display, console
from windtunnel.sweep.driver import Driver, Point, finished
from windtunnel.sweep.packs import group, use_all_cores


def run(points: list[Point], root: Path, settings: Settings, fixed: dict[str, Any] | None) -> bool:
    """Run the points that are not done, pack by pack; show what came out. Whether every study ended well.

    `fixed` is what all points of a sweep share (None: this is no sweep): a folder that holds a sweep with another
    fixed part is refused.
    """
    records.writable(root)
    if fixed is not None:
        _write_sweep(root, points, fixed)
    waiting = [point for point in points if not finished(root, point)]
    packs = [[waiting[i] for i in pack] for pack in group([point.study for point in waiting])]
    use_all_cores()
    steps = sum(point.study.train.steps for point in waiting)
    with Display(steps, len(packs)) as display:
        if settings.question:
            display.say(settings.question)
        if len(points) > 1:
            done = len(points) - len(waiting)
            display.say(f"{len(points)} studies, {done} of them done; {len(packs)} packs to run")
        driver = Driver(root, display, settings.checkpoint_seconds, settings.probe.every)
        for number, pack in enumerate(packs, 1):
            driver.run(number, pack)
    show(root, [root / point.id for point in points])
    return all(records.status(root / point.id) == "done" for point in points)


def show(root: Path, folders: list[Path]) -> None:
    """The verdict of one study, or the table, the figure and the answer of a sweep."""
    from windtunnel.report import tables

    out = console()
    if len(folders) == 1:
        if records.status(folders[0]) == "done":
            table, facts = tables.verdict(folders[0])
            out.print(table)
            out.print(facts, markup=False)
        out.print(f"records in {folders[0]}", markup=False)
        return
    table, groups = tables.summary(root, out.width)
    out.print(table)
    places = [str(records.write_results(root))]
    if any(group.done for group in groups):
        try:
            from windtunnel.report.figures import kl_against_length

            places.append(str(kl_against_length(root)))
        except ModuleNotFoundError as error:
            print(f"no figure: {error.name} is not installed (pip install 'windtunnel[report]')", file=sys.stderr)
    out.print(f"results in {', '.join(places)}", markup=False)
    out.print(tables.answer(groups), markup=False)


def evaluate(folder: Path, settings: list[str]) -> None:
    """Judge the finished studies of a folder again, with other `evaluate` settings; nothing is retrained."""
    points = []
    for place in records.studies(folder):
        if checkpoint.exists(place / "checkpoint"):
            record = records.read_json(place / "study.json")
            chosen = dict(_setting(text) for text in settings)
            made = study({**record["study"], "evaluate": {**record["study"]["evaluate"], **chosen}})
            points.append(Point(made, record["overrides"]))
    if not points:
        raise BadInput(f"{folder}: holds no trained study; run it first")
    root = folder.parent if (folder / "study.json").exists() else folder
    run(points, root, Settings(), None)


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.removeprefix("evaluate.").partition("=")
    if not equals:
        raise BadInput(f"{text}: should be KEY=VALUE, as in reach=500")
    return key, value


def fixed_part(points: list[Point]) -> dict[str, Any]:
    """What all points of a sweep share, as dotted keys."""
    flat = [flatten(plain(point.study)) for point in points]
    return {key: value for key, value in flat[0].items() if all(other.get(key, ...) == value for other in flat)}


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict of dotted keys."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    parts = (flatten(value, f"{prefix}.{key}" if prefix else key) for key, value in tree.items())
    return {key: value for part in parts for key, value in part.items()}


def _write_sweep(root: Path, points: list[Point], fixed: dict[str, Any]) -> None:
    """`sweep.json`: all points (those of earlier calls too), the packs, and the fixed part."""
    path = root / "sweep.json"
    before = records.read_json(path) if path.exists() else {"points": [], "fixed": fixed}
    for key in sorted(set(fixed) & set(before["fixed"])):
        if fixed[key] != before["fixed"][key]:
            raise BadInput(
                f"{key}={fixed[key]}: {root} holds a sweep with {key}={before['fixed'][key]}; "
                "give it a folder of its own with runs=…"
            )
    rows = {point["study_id"]: point for point in before["points"]}
    rows |= {point.id: {"study_id": point.id, "overrides": point.overrides} for point in points}
    packs = [[points[i].id for i in pack] for pack in group([point.study for point in points])]
    records.write_json(path, {"points": list(rows.values()), "packs": packs, "fixed": fixed})

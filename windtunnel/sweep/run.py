"""From points to verdicts: everything is validated and recorded before anything trains."""

import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax

from windtunnel import checkpoint, records
from windtunnel.cache import keep_compiled
from windtunnel.compiled import settle
from windtunnel.config import Settings
from windtunnel.door import study
from windtunnel.errors import BadInput, StudyFailed
from windtunnel.load import plain_study, read_study
from windtunnel.progress import Display, console
from windtunnel.records.claims import held, locked
from windtunnel.spec import plain
from windtunnel.sweep import plan
from windtunnel.sweep.driver import Driver, finished
from windtunnel.sweep.estimate import refuse_impossible
from windtunnel.sweep.folder import write_sweep
from windtunnel.sweep.packs import group, use_all_cores
from windtunnel.sweep.point import Point
from windtunnel.sweep.stop import Stop

POLL_SECONDS = 0.5  # between looks at what another process has claimed


def run(points: list[Point], root: Path, settings: Settings, fixed: dict[str, Any] | None) -> bool:
    """Run the points that are not done, pack by pack, and show the results. Returns whether every study is done.

    `fixed` is what all points of a sweep share, or None for a single study: a folder that holds a sweep with another
    fixed part is refused.
    """
    use_all_cores()
    refuse_impossible([point for point in points if not finished(root, point)], jax.device_count())
    if settings.dry_run:
        keep_compiled(settings.compilation_cache)
        plan.show(root, points, grouped([point for point in points if not finished(root, point)]))
        return True
    records.writable(root)
    checkpoint.check(root)
    if fixed is not None:
        write_sweep(root, points, fixed, settings.question)
    work(points, root, settings, Stop())
    show(root, [root / point.id for point in points])
    return all(finished(root, point) for point in points)


def work(
    points: list[Point],
    root: Path,
    settings: Settings,
    stop: Stop,
    signals: Iterable[int] = (signal.SIGINT, signal.SIGTERM),
    leave: Callable[[], None] = lambda: None,
) -> None:
    """Train and judge the points that are not done. `leave` is called where a signal ends the process at once."""
    use_all_cores()
    keep_compiled(settings.compilation_cache)
    waiting = [point for point in points if not finished(root, point)]
    steps = sum(point.study.train.steps for point in waiting)
    display = Display(steps, len(grouped(waiting)))

    def left() -> None:
        display.leave()
        leave()

    with display, stop.listening(left, signals):
        if settings.question:
            display.say(settings.question)
        if len(points) > 1:
            done = len(points) - len(waiting)
            display.say(f"{len(points)} studies, {done} of them done; {len(grouped(waiting))} packs to run")
        driver = Driver(
            root,
            display,
            settings.checkpoint_seconds,
            stop,
            settings.fail_fast,
            settings.tracker,
            settings.probe.every,
        )
        try:
            while waiting:
                waiting = [point for point in wait(root, drive(driver, waiting), stop) if not finished(root, point)]
        except StudyFailed:
            display.say("stopped at the first failure; without --fail-fast the same command goes on")
        finally:
            settle()  # while a signal still ends the process


def grouped(points: list[Point]) -> list[list[Point]]:
    return [[points[i] for i in pack] for pack in group([point.study for point in points])]


def drive(driver: Driver, points: list[Point]) -> list[Point]:
    """Run the points pack by pack; return the points that another process is working on."""
    others: list[Point] = []
    packs = grouped(points)
    for number, (pack, following) in enumerate(zip(packs, [*packs[1:], []], strict=True), 1):
        others += driver.run(number, pack, following)
        if driver.fail_fast and any(records.status(driver.root / point.id) == "failed" for point in pack):
            raise StudyFailed
    return others


def wait(root: Path, others: list[Point], stop: Stop) -> list[Point]:
    """Wait until other processes have released some of the points; return all that have not failed.

    The caller drops the finished ones. The rest was left undone, because the other process was stopped.
    """
    while others:
        stop.check()
        claimed = held(root, [point.id for point in others])
        free = [point for point in others if point.id not in claimed]
        if free:
            break
        time.sleep(POLL_SECONDS)
    return [point for point in others if records.status(root / point.id) != "failed"]


def show(root: Path, folders: list[Path]) -> None:
    """The verdict of one study, or the table, the figure and the answer of a sweep."""
    from windtunnel.report import tables
    from windtunnel.report.status import effort

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
    if spent := effort(root):
        out.print(spent, markup=False)
    with locked(root):
        paths = [str(records.write_results(root))]
    if any(group.done for group in groups):
        try:
            from windtunnel.report.figures import kl_against_length

            paths.append(str(kl_against_length(root)))
        except BadInput as error:  # matplotlib is an optional dependency
            print(f"no figure: {error}", file=sys.stderr)
    out.print(f"results in {', '.join(paths)}", markup=False)
    out.print(tables.answer(groups), markup=False)


def evaluate(folder: Path, settings: list[str], trust: bool = False) -> None:
    """Judge the finished studies of a folder again, with other `evaluate` settings; nothing is retrained. A damaged
    record is named and left as it is.
    """
    given = dict(_setting(text) for text in settings)
    plugins = [name for name in given.pop("plugins", "").strip("[]").split(",") if name]
    points, damaged = [], []
    for study_folder in trained(folder):
        try:
            trained_study = read_study(study_folder, plugins, trust)
            overrides = plain_study(study_folder)["overrides"]
        except records.Damaged as error:
            damaged.append(error)
            continue
        fields = plain(trained_study)
        points.append(Point(study({**fields, "evaluate": {**fields["evaluate"], **given}}), overrides))
    if not points and damaged:
        raise damaged[0]
    for error in damaged:
        print(f"windtunnel: {error}", file=sys.stderr)
    root = folder.resolve().parent if records.is_study(folder) else folder
    if not run(points, root, Settings(), None) or damaged:
        raise StudyFailed


def trained(folder: Path) -> list[Path]:
    """The trained studies of a folder; `BadInput` where there are none."""
    folders = [study for study in records.studies(folder) if checkpoint.exists(study / "checkpoint")]
    if not folders:
        raise BadInput(f"{folder}: holds no trained study; run it first")
    return folders


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.removeprefix("evaluate.").partition("=")
    if not equals:
        raise BadInput(f"{text}: should be KEY=VALUE, as in reach=500")
    return key, value

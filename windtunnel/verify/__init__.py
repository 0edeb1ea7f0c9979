"""`windtunnel verify`: every tunnel proves its exact posterior, before the eyes of whoever doubts it."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from rich.table import Table

from windtunnel import plugins
from windtunnel.cache import keep_compiled
from windtunnel.errors import BadInput, StudyFailed, no_such
from windtunnel.progress import console
from windtunnel.sweep.packs import use_all_cores
from windtunnel.verify.brute import judges
from windtunnel.verify.checks import Check, checks
from windtunnel.verify.uses import in_use

SIZES = 3  # random small sizes for each tunnel
TITLE = """\
against brute force: float64, several random small sizes each
as trained, judged, looked at: compiled in float32 at the preset's sizes, against float64 outside jit"""


def verify(names: list[str]) -> None:
    """Print the table of checks for these tunnels (none: all); `StudyFailed` where one does not hold."""
    names = [tunnel for name in names for tunnel in _named(name)]
    use_all_cores()
    keep_compiled()
    out = console()
    table = Table(title=TITLE, title_justify="left")
    for header in ("tunnel", "check", "largest deviation", "bound", ""):
        table.add_column(header, justify="right" if header in ("largest deviation", "bound") else "left")
    sound = True
    for name, worst in side_by_side(names or list(judges())):
        for i, check in enumerate(worst):
            passed = "[green]pass" if check.passed else "[bold red]FAIL"
            shown = f"{check.deviation:.1e}", f"{check.bound:.0e}" if check.bound < 1 else f"{check.bound:g}"
            table.add_row(name if i == 0 else "", check.name, *shown, passed, end_section=check is worst[-1])
        sound = sound and all(check.passed for check in worst)
        out.print(f"{name}: {'sound' if all(check.passed for check in worst) else 'NOT SOUND'}", markup=False)
    out.print(table)
    if not sound:
        raise StudyFailed


def side_by_side(names: list[str]) -> Iterator[tuple[str, list[Check]]]:
    """The checks of each tunnel, in this order. Two at once: nearly all of the time goes into compiling."""
    pool = ThreadPoolExecutor(min(2, len(os.sched_getaffinity(0))))
    try:
        yield from zip(names, pool.map(every_check, names), strict=True)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def every_check(name: str) -> list[Check]:
    every = [*worst_of(name), *in_use(name)]
    jax.clear_caches()  # hundreds of small programs that no other tunnel needs: gigabytes, if all were kept
    return every


def _named(name: str) -> list[str]:
    """The tunnel of this name, or the tunnels of this plugin's file."""
    modules = plugins.load([name] if name.endswith(".py") else [])
    if modules:
        added = list(getattr(modules[0], "BRUTES", {}))
        if not added:
            raise BadInput(f"{name}: has no judge for its tunnels; give it a dict BRUTES")
        return added
    if name not in judges():
        raise BadInput(f"{name}: {no_such(name, list(judges()))}")
    return [name]


def worst_of(name: str, sizes: int = SIZES) -> list[Check]:
    """Each check of a tunnel at its worst over random small sizes."""
    random = np.random.default_rng(0)
    worst: dict[str, Check] = {}
    for seed in range(sizes):
        tunnel, observations = judges()[name].small(random)
        for check in checks(tunnel, observations, seed):
            if check.name not in worst or not check.deviation <= worst[check.name].deviation:
                worst[check.name] = check
    return list(worst.values())

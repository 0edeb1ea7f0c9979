"""How long people wait beside the steps of training, now and at an earlier commit, measured alternately.

The earlier commit is checked out into a worktree of git under a temporary folder, and is run by the same interpreter.
Every command is a process of its own; caches are empty (`cold`) or hold what the same command left before (`warm`).
"""

import contextlib
import csv
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.table import figure
from bench.workers import ROUNDS, SCRIPTS

BEFORE = "5fe0214"
HERE = SCRIPTS.parent
HEAD = ["what", "ratio", "must", "before", "now"]
STUDY, SWEEP = ["run"], ["run", "+sweep=extrapolation"]
SHORT = "train.steps=40"  # of the studies of a report, which costs the same after any training
REFUSED = ["run", "tunnel.noise=abc"]
COMPOSED = "bench/composing.py"


class Took(NamedTuple):
    """Seconds of a process: by the clock, of the processors, and of training steps by its own records."""

    wall: float
    cpu: float
    steps: float = 0.0

    @property
    def beside(self) -> float:
        return self.wall - self.steps


@contextlib.contextmanager
def earlier() -> Iterator[Path]:
    """A checkout of the earlier commit."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "before"
        git = ["git", "-C", str(HERE), "worktree"]
        subprocess.run([*git, "add", "--detach", str(folder), BEFORE], check=True, capture_output=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def took(code: Path, words: list[str], caches: Path, program: list[str], well: int = 0) -> Took:
    """Run `program words`, with the package from the folder `code`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    environment |= {"PYTHONPATH": f"{code}:{SCRIPTS}", "XDG_CACHE_HOME": str(caches)}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *program, *words], cwd=caches, env=environment, capture_output=True, text=True
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != well:
        raise SystemExit(f"{code}: {' '.join(words)}: {done.stdout}{done.stderr}")
    print(f"  {code.name}: {' '.join(words)}: {wall:.1f} s", flush=True)
    return Took(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def windtunnel(code: Path, words: list[str], caches: Path, well: int = 0) -> Took:
    return took(code, words, caches, ["-m", "windtunnel.cli"], well)


def run(code: Path, words: list[str], caches: Path) -> Took:
    """A run into a folder of its own."""
    with tempfile.TemporaryDirectory() as runs:
        whole = windtunnel(code, [*words, f"runs={runs}"], caches)
        (results,) = Path(runs).glob("*/results.csv")
        with results.open() as lines:
            return whole._replace(steps=sum(float(row["train_seconds"]) for row in csv.DictReader(lines)))


def cold_and_warm(measure: Callable[[Path, Path], Took], before: Path, rounds: int) -> list[tuple[Took, Took, Took]]:
    """(before, now with empty caches, now again), `rounds` times."""
    rows = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as old, tempfile.TemporaryDirectory() as new:
            rows.append((measure(before, Path(old)), measure(HERE, Path(new)), measure(HERE, Path(new))))
    return rows


def in_turn(measure: Callable[[Path], float], before: Path) -> list[tuple[float, float]]:
    return [(measure(before), measure(HERE)) for _ in range(ROUNDS)]


def cells(what: str, pairs: list[tuple[float, float]], most: float | None) -> list[str]:
    """A row, from pairs of (before, now)."""
    ratios = sorted(now / before for before, now in pairs)
    must = "" if most is None else f"≤ {most:g}" + (", **not met**" if median(ratios) > most else "")
    before, now = (figure(median(each)) for each in zip(*pairs, strict=True))
    return [what, f"{median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]", must, before, now]


def ready() -> list[list[str]]:
    """All rows but those of the main sweep and of the tests."""
    rows = []
    with earlier() as before, tempfile.TemporaryDirectory() as scratch:
        caches = Path(scratch)
        study = cold_and_warm(lambda code, own: run(code, STUDY, own), before, ROUNDS)
        rows.append(cells("the default study beyond its steps, cold: s", beside(study, 1), 0.5))
        rows.append(cells("the same, warm: s", beside(study, 2), 0.2))
        dry = cold_and_warm(lambda code, own: windtunnel(code, [*SWEEP, "--dry-run"], own), before, ROUNDS)
        rows.append(cells("`--dry-run` of 18 points, cold: s", [(old.wall, new.wall) for old, new, _ in dry], 0.5))
        rows.append(cells("the same, warm: s", [(old.wall, again.wall) for old, _, again in dry], 0.5))
        composing = in_turn(lambda code: took(code, [], caches, [str(SCRIPTS / COMPOSED)]).cpu, before)
        rows.append(cells("composing 130 points: s of CPU", composing, 0.3))
        refused = in_turn(lambda code: windtunnel(code, REFUSED, caches, 2).wall, before)
        rows.append(cells("a refused value, which must take under 2 s: s", refused, None))
        for code in (before, HERE):  # each reads records of its own schema
            windtunnel(code, [*SWEEP, SHORT, f"runs={caches / code.name}"], caches)
        report = in_turn(
            lambda code: windtunnel(code, ["report", str(caches / code.name / "extrapolation")], caches).cpu, before
        )
        rows.append(cells("`windtunnel report` of 18 studies: s of CPU", report, 0.35))
    return rows


def beside(rounds: list[tuple[Took, Took, Took]], which: int) -> list[tuple[float, float]]:
    return [(each[0].beside, each[which].beside) for each in rounds]


def ready_run() -> list[list[str]]:
    """The main sweep, five times: twenty minutes. The earlier commit judged each model on 64 sequences and no more, so
    this is measured now as well.
    """
    with earlier() as before, tempfile.TemporaryDirectory() as scratch:
        old, *now = [Path(scratch) / name for name in ("before", "now", "as-many")]
        for caches in (old, *now):
            caches.mkdir()
        was = run(before, SWEEP, old).beside
        took = [
            [(was, run(HERE, [*SWEEP, *more], caches).beside) for _ in ("cold", "warm")]
            for caches, more in zip(now, ([], ["evaluate.most_examples=64"]), strict=True)
        ]
    names = ("`make run` beyond its steps", "on 64 sequences a model, as before")
    return [
        cells(f"{name}, {state}: s", [pair], 0.4 if state == "cold" else None)
        for name, pairs in zip(names, took, strict=True)
        for state, pair in zip(("cold", "warm"), pairs, strict=True)
    ]


def ready_tests() -> list[list[str]]:
    """The fast tests, once, with empty caches; the largest process by its resident memory."""
    rows = []
    shutil.rmtree(HERE / ".pytest_cache", ignore_errors=True)
    with earlier() as before, tempfile.TemporaryDirectory() as scratch:
        minutes, peaks = [], []
        for code in (before, HERE):
            own = Path(scratch) / code.name
            own.mkdir()
            of_its_own = ["-c", str(code / "pyproject.toml"), f"--rootdir={code}", str(code / "tests")]
            pytest = ["-m", "pytest", "-q", *of_its_own]
            minutes.append(took(code, [], own, ["-c", PEAK, *pytest]).wall / 60)
            peaks.append(float((own / "peak").read_text()))
        rows.append(cells("the fast tests, which must take at most 5: minutes", [(minutes[0], minutes[1])], None))
        rows.append(cells("their largest worker, which must take at most 2: GB", [(peaks[0], peaks[1])], None))
    return rows


# Runs tests and writes down the largest resident memory of its processes, in GB. That some fail is no error: those of
# the earlier commit may, with packages of today.
PEAK = """
import pathlib, resource, subprocess, sys
code = subprocess.run([sys.executable, *sys.argv[1:]]).returncode
pathlib.Path("peak").write_text(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6))
sys.exit(code if code > 1 else 0)
"""

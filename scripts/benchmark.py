"""`make bench`: the tables of docs/benchmarks.md. `python scripts/benchmark.py ROW …` measures and prints single rows.

The two sides of a row are measured alternately, so compare ratios. The rows are written into the document when all are
measured; the others, tables of their own, whenever they are measured. The rows of training against
PyTorch need `pip install '.[bench]'`.
"""

import os
import platform
import re
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from bench import accelerator, parts, posteriors, published, ready, runs, steps, versions
from bench.table import HEAD, Line
from page import fill, table

ROWS: dict[str, Callable[[], list[Line]]] = {
    "study": steps.study,
    "sweep": steps.sweep,
    "paper": steps.paper,
    "recipe": runs.recipe,
    "overhead": runs.overhead,
    "run": runs.run,
    "posteriors": posteriors.posteriors,
}
TABLES: dict[str, tuple[Callable[[], list[list[str]]], list[str]]] = {
    "parts": (parts.parts, parts.HEAD),
    "published": (published.published, parts.HEAD),
    "accelerator": (accelerator.accelerator, accelerator.HEAD),
    "ready": (ready.ready, ready.HEAD),
    "ready_run": (ready.ready_run, ready.HEAD),
    "ready_tests": (ready.ready_tests, ready.HEAD),
    "jaxlib": (versions.jaxlib, ready.HEAD),
}
EMPTY = {"accelerator": "No accelerator was at hand: left empty."}
DOC = Path("docs/benchmarks.md")


def main() -> None:
    names = sys.argv[1:] or [*ROWS, *TABLES]
    unknown = [name for name in names if name not in [*ROWS, *TABLES]]
    if unknown:
        raise SystemExit(f"{unknown[0]}: no such row; valid: {', '.join([*ROWS, *TABLES])}")
    began, lines = time.perf_counter(), []
    for name in names:
        print(f"{name} …", flush=True)
        if name in TABLES:
            measure, head = TABLES[name]
            rows = measure()
            text = table(head, rows) if rows else EMPTY.get(name, "Not measured here.")
            fill(DOC, name, text)
        else:
            lines += (rows := [line.cells() for line in ROWS[name]()])
            text = table(HEAD, rows)
        print(text, flush=True)
    minutes = (time.perf_counter() - began) / 60
    print(f"{minutes:.1f} minutes", flush=True)
    if set(names) >= set(ROWS):
        fill(DOC, "table", f"{machine()}; {minutes:.0f} minutes.\n\n{table(HEAD, lines)}")


def machine() -> str:
    cores = len(os.sched_getaffinity(0))
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "torch", "numpy"))
    return f"{cores} cores, {processor()}; {versions}; load average {os.getloadavg()[2]:.1f} over the last 15 minutes"


def processor() -> str:
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return model[1] if model else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()

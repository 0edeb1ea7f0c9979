"""The rows that measure whole runs of the command line in wall-clock time, each in a folder of its own."""

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.table import Line
from bench.workers import PAPER, ROUNDS, SCRIPTS, SMALL, THREADS, Contender, Shape, pytorch

RECIPE_STEPS, RECIPE_BATCH = 50_000, 256  # of the published training
TARGET, SHORT = 1e-3, 750  # bits, and the steps that the preset of `bijection` needs to reach that KL
MAKE_RUN = 300.0  # seconds that the main sweep may take


def windtunnel(*arguments: str) -> tuple[float, list[dict[str, str]], float]:
    """Seconds of `windtunnel run …`, its records, and the seconds of all its compilations."""
    with tempfile.TemporaryDirectory() as scratch:
        began = time.perf_counter()
        command = [sys.executable, SCRIPTS / "bench/compiling.py", "run", *arguments, f"runs={scratch}"]
        environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
        environment |= {"PYTHONPATH": str(SCRIPTS), "XDG_CACHE_HOME": scratch}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        took = time.perf_counter() - began
        (results,) = Path(scratch).glob("*/results.csv")
        with results.open() as lines:
            rows = list(csv.DictReader(lines))
    print(f"  {' '.join(arguments)}: {took:.1f} s", flush=True)
    return took, rows, float(done.stderr.splitlines()[-1])


def recipe() -> list[Line]:
    """Seconds from the start of the process to a verdict of at most 10⁻³ bits, against 50,000 eager steps."""
    shape = Shape(PAPER.symbols, PAPER.layers, PAPER.heads, PAPER.width, RECIPE_BATCH)
    ours, theirs, reached = [], [], []
    eager = [Contender(f"eager at batch {RECIPE_BATCH}, {n}", pytorch(shape, "eager", n, "adamw")) for n in THREADS]
    fastest = max(eager, key=lambda contender: [contender.advance() for _ in range(2)][-1])
    for seed in range(ROUNDS):
        took, (row,), _ = windtunnel("tunnel=bijection", f"train.steps={SHORT}", f"seed={seed}")
        ours.append(took)
        reached.append(float(row["kl_bits"]))
        theirs.append(RECIPE_STEPS / fastest.advance())
    for contender in eager:
        contender.close()
    detail = f"{SHORT} steps of the preset, five seeds: {min(reached):.1e} to {max(reached):.1e} bits"
    if median(reached) > TARGET:
        detail += ", **more than 10⁻³**"
    what = "bijection V = 20 to 10⁻³ bits, from process start: seconds"
    return [Line(what, "50,000 steps at batch 256, PyTorch eager, AdamW", ours, theirs, 100, detail, seconds=True)]


def overhead() -> list[Line]:
    """The time of a sweep of 24 points beyond compiling and steps: start, evaluation, records, table and figure."""
    took, rows, compiling = windtunnel("-m", *SMALL.overrides, "seed=range(8)", "train.learning_rate=0.02,0.035,0.05")
    steps = sum(float(row["train_seconds"]) for row in rows)
    detail = f"{steps:.1f} s of steps, {compiling:.1f} s of compiling, {took - steps - compiling:.1f} s of all else"
    what = "sweep of 24 points: seconds of compiling and steps, of all"
    return [Line(what, "the whole sweep, by the clock", [steps + compiling], [took], 1 / 1.1, detail)]


def run() -> list[Line]:
    """The main sweep, once."""
    took, rows, _ = windtunnel("+sweep=extrapolation")
    steps = sum(float(row["train_seconds"]) for row in rows)
    return [Line("`make run`: seconds", "five minutes", [took], [MAKE_RUN], 1, f"{steps:.0f} s of steps", seconds=True)]

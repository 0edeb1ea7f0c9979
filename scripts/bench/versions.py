"""jaxlib 0.10.1 beside 0.10.2: steps and compiling of the default study.

0.10.2 computes wrong results, and the canary refuses it: here alone it is passed over, since only speed is asked.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.ready import cells
from bench.workers import ROUNDS, SCRIPTS

BEFORE, AFTER = "0.10.1", "0.10.2"
STEPS = 100
ASK = "from bench import versions; versions.measure()"


def environment(version: str, folder: Path) -> Path:
    """A virtual environment like this one, but for JAX: its interpreter."""
    freeze = [sys.executable, "-m", "pip", "freeze", "--exclude-editable"]
    lines = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout.splitlines()
    same = [
        line
        for line in lines
        if line.split("==")[0].lower() not in ("jax", "jaxlib", "torch", "windtunnel") and "==" in line
    ]
    (folder / "requirements.txt").write_text("\n".join([*same, f"jax=={version}", f"jaxlib=={version}"]))
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "-r", folder / "requirements.txt"], check=True)
    return python


def jaxlib() -> list[list[str]]:
    """Empty where the versions do not run: on Python 3.12 and later."""
    if sys.version_info >= (3, 12):
        return []
    times: dict[str, list[tuple[float, float]]] = {BEFORE: [], AFTER: []}
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        folders = {BEFORE: Path(first), AFTER: Path(second)}
        pythons = {version: environment(version, folder) for version, folder in folders.items()}
        for _ in range(ROUNDS):
            for version, python in pythons.items():
                where = {"PYTHONPATH": f"{SCRIPTS.parent}:{SCRIPTS}", "PATH": "/usr/bin:/bin"}
                done = subprocess.run([python, "-c", ASK], check=True, capture_output=True, text=True, env=where)
                times[version].append(tuple(json.loads(done.stdout.splitlines()[-1])))
                print(f"  jaxlib {version}: {times[version][-1]}", flush=True)
    pairs = list(zip(times[BEFORE], times[AFTER], strict=True))
    what = f"jaxlib {AFTER} against {BEFORE}, the default study"
    return [
        cells(f"{what}: ms a step", [(before[0], after[0]) for before, after in pairs], None),
        cells(f"{what}: s of compiling a step", [(before[1], after[1]) for before, after in pairs], None),
    ]


def measure() -> None:
    """Print [milliseconds a step, seconds of compiling the step]."""
    from windtunnel.compose import compose
    from windtunnel.sweep import packs

    packs.check_compiler = lambda: None
    packs.use_all_cores()
    program = packs.Program([compose()[0]])
    state = program.start()
    before = program.compile_seconds
    program.memory("advance")
    compiling = program.compile_seconds - before
    state, _ = program.advance(state, STEPS)
    began = time.perf_counter()
    program.advance(state, STEPS)
    print(json.dumps([1e3 * (time.perf_counter() - began) / STEPS, compiling]))

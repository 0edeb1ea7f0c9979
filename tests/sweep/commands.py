"""The command line as a process, and whether what two of them left is the same."""

import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from windtunnel import load

ENDED = ("result.json", "curves.npz", "train.jsonl")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "windtunnel.cli", *arguments]


def windtunnel(*arguments: str, **environment: str) -> str:
    """What the command prints; it must end well."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def same(first: Path, other: Path) -> None:
    """Whether two runs folders hold the same studies, bit for bit: verdicts, curves and parameters."""
    folders = sorted(path.parent.relative_to(first) for path in first.glob("*/*/result.json"))
    assert folders and folders == sorted(path.parent.relative_to(other) for path in other.glob("*/*/result.json"))
    for folder in folders:
        for name in ENDED:
            assert (first / folder / name).read_bytes() == (other / folder / name).read_bytes(), (folder, name)
        params, others = (parameters(root / folder) for root in (first, other))
        assert params == others


def parameters(folder: Path) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(load(folder)[2])]


def until(true, what: str, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)

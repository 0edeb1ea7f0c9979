"""Contenders: each a process, or a few side by side, that says `ready` after its first step, then takes as many steps
as a line on stdin says and answers with the model-steps made. They take turns, so that what disturbs the machine
disturbs all of them.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parents[1]
ROUNDS, SECONDS = 5, 2.0  # how often each has its turn, and how long that should take
THREADS = sorted({1, len(os.sched_getaffinity(0))})  # of PyTorch: with which it is faster is for it to show


@dataclass(frozen=True)
class Shape:
    """A study of `bijection`: what both sides are told."""

    symbols: int
    layers: int
    heads: int
    width: int
    batch: int = 64

    @property
    def overrides(self) -> list[str]:
        return [
            *("tunnel=bijection", f"tunnel.symbols={self.symbols}", f"train.batch={self.batch}"),
            *(f"model.layers={self.layers}", f"model.heads={self.heads}"),
            *(f"model.width={self.width}", f"model.hidden={4 * self.width}"),
        ]


SMALL, PAPER = Shape(8, 2, 2, 64), Shape(20, 6, 6, 192)  # 100 thousand parameters; the published 2.7 million


def ours(shape: Shape, studies: int = 1, optimizer: str = "muon") -> list[str]:
    return ["bench/ours.py", str(studies), *shape.overrides, f"train.optimizer={optimizer}"]


def pytorch(shape: Shape, kind: str, threads: int, optimizer: str = "muon") -> list[str]:
    numbers = threads, shape.symbols, shape.layers, shape.heads, shape.width, shape.batch
    return ["baseline/training.py", kind, optimizer, *map(str, numbers)]


class Contender:
    """`setup` is the seconds from the start of its processes until all are ready; compilers find no old cache."""

    def __init__(self, name: str, *commands: list[str]):
        self.name, self.steps, began = name, 2, time.perf_counter()
        self.scratch = tempfile.TemporaryDirectory()
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": self.scratch.name, "PYTHONPATH": str(SCRIPTS)}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
        self.workers: list[Any] = [
            subprocess.Popen([sys.executable, SCRIPTS / run, *rest], **pipes) for run, *rest in commands
        ]
        for worker in self.workers:
            self._answer(worker)
        self.setup = time.perf_counter() - began
        print(f"  {name}: ready after {self.setup:.1f} s", flush=True)

    def advance(self) -> float:
        """Model-steps a second, over a turn."""
        began = time.perf_counter()
        for worker in self.workers:
            worker.stdin.write(f"{self.steps}\n")
            worker.stdin.flush()
        made = sum(int(self._answer(worker)) for worker in self.workers)
        took = time.perf_counter() - began
        self.steps = max(1, round(self.steps * SECONDS / took))
        return made / took

    def close(self) -> None:
        for worker in self.workers:
            worker.stdin.close()
            worker.wait()
        self.scratch.cleanup()

    def _answer(self, worker: Any) -> str:
        line = worker.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with exit code {worker.wait()}")
        return line.strip()


def setups(name: str, *commands: list[str]) -> list[float]:
    """Of as many fresh starts as there are rounds."""
    seconds = []
    for _ in range(ROUNDS):
        contender = Contender(name, *commands)
        contender.close()
        seconds.append(contender.setup)
    return seconds


def turns(contenders: list[Contender]) -> dict[str, list[float]]:
    """Model-steps a second of each contender, round by round; two unmeasured turns set the length of a turn."""
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(ROUNDS + 2):
        for contender in contenders:
            rate = contender.advance()
            if number >= 2:
                rates[contender.name].append(rate)
        if number >= 2:
            print("  " + ", ".join(f"{name} {made[-1]:.1f}" for name, made in rates.items()), flush=True)
    for contender in contenders:
        contender.close()
    return rates

"""Contenders: each is one or several worker processes. A worker prints `ready` after its first step; then it reads a
number of steps from each line of stdin, takes them, and prints the number of model-steps. Contenders are measured
alternately, so that other load on the machine affects all of them.
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
ROUNDS, SECONDS = 5, 2.0  # how often each contender is measured, and for about how long
THREADS = sorted({1, len(os.sched_getaffinity(0))})  # numbers of PyTorch threads; the faster one counts


@dataclass(frozen=True)
class Shape:
    """A study of `bijection`, the same for windtunnel and PyTorch."""

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
    """Worker processes. `setup` is the seconds from their start until all are ready; compilers find no old cache."""

    def __init__(self, name: str, *commands: list[str]):
        self.name, self.steps, began = name, 2, time.perf_counter()
        self.scratch = tempfile.TemporaryDirectory()
        environment = os.environ | {
            "TORCHINDUCTOR_CACHE_DIR": self.scratch.name,
            "PYTHONPATH": str(SCRIPTS),
            "XDG_CACHE_HOME": self.scratch.name,
        }
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
        """Take steps for about SECONDS; return model-steps per second."""
        began = time.perf_counter()
        for worker in self.workers:
            worker.stdin.write(f"{self.steps}\n")
            worker.stdin.flush()
        done = sum(int(self._answer(worker)) for worker in self.workers)
        took = time.perf_counter() - began
        self.steps = max(1, round(self.steps * SECONDS / took))
        return done / took

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
    """The seconds until ready, for as many starts as there are rounds."""
    seconds = []
    for _ in range(ROUNDS):
        contender = Contender(name, *commands)
        contender.close()
        seconds.append(contender.setup)
    return seconds


def alternate(contenders: list[Contender]) -> dict[str, list[float]]:
    """Model-steps per second of each contender, round by round; two unmeasured rounds first calibrate the steps."""
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(ROUNDS + 2):
        for contender in contenders:
            rate = contender.advance()
            if number >= 2:
                rates[contender.name].append(rate)
        if number >= 2:
            print("  " + ", ".join(f"{name} {rounds[-1]:.1f}" for name, rounds in rates.items()), flush=True)
    for contender in contenders:
        contender.close()
    return rates

"""The parts of a step of one small study: on one core a full batch, half a batch, the optimiser alone; on all cores."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from bench.flops import flop
from bench.workers import ROUNDS, SMALL
from windtunnel import train
from windtunnel.compose import compose
from windtunnel.optimizers import optimizer
from windtunnel.spec import arrays
from windtunnel.sweep.packs import Program, use_all_cores

HEAD = ["part", "ms", "GFLOP", "GFLOP/s"]
STEPS = 100
HALF = [*SMALL.overrides, f"train.batch={SMALL.batch // 2}"]


def milliseconds(call: Callable[[], Any], steps: int = STEPS) -> float:
    """Milliseconds of one of the `steps` in a call, the median over rounds; the first call compiles and is not
    counted.
    """
    times = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return 1e3 * median(times[1:]) / steps


def step(overrides: list[str]) -> float:
    """Milliseconds of a whole step on one device."""
    study = arrays(compose(overrides)[0])
    tables, state = train.prepare(study), train.start(study)
    advance = jax.jit(train.advance)
    return milliseconds(lambda: advance(study, tables, state, jnp.int32(STEPS)))


def optimizer_alone(overrides: list[str]) -> float:
    """Milliseconds of the optimiser alone."""
    study = arrays(compose(overrides)[0])
    state = train.start(study)

    @jax.jit
    def steps(params: Any, memory: Any) -> Any:
        def body(_: int, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            updates, memory = optimizer(study.train).update(state.params, carry[1], carry[0])
            return optax.apply_updates(carry[0], updates), memory

        return lax.fori_loop(0, STEPS, body, (params, memory))

    return milliseconds(lambda: steps(state.params, state.optimizer))


def everywhere(overrides: list[str], steps: int = STEPS) -> float:
    """Milliseconds of a step on all cores."""
    program = Program([compose(overrides)[0]])
    state = program.start()

    def call() -> Any:
        nonlocal state
        state, kl_bits = program.advance(state, steps)
        return kl_bits

    return milliseconds(call, steps)


def parts() -> list[list[str]]:
    """The lines of the table. Measurements on one core and on all cores run in processes of their own."""
    lines = []
    for where in ("one core", "all cores"):
        run = subprocess.run(
            [sys.executable, "-m", "bench.parts", where], cwd=sys.path[0], capture_output=True, text=True, check=True
        )
        lines += json.loads(run.stdout.splitlines()[-1])
    return lines


def main(where: str) -> None:
    if where == "one core":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        whole, half, adamw = flop(SMALL.overrides), flop(HALF), flop([*SMALL.overrides, "train.optimizer=adamw"])
        rows = [
            (f"one core: a step of {SMALL.batch} sequences, Muon", step(SMALL.overrides), whole),
            (f"one core: a step of {SMALL.batch // 2}", step(HALF), half),
            ("one core: Muon alone", optimizer_alone(SMALL.overrides), whole - adamw),
        ]
    else:
        use_all_cores()
        rows = [(f"all cores: a step of {SMALL.batch}, split", everywhere(SMALL.overrides), flop(SMALL.overrides))]
    print(
        json.dumps([[what, f"{ms:.2f}", f"{flops / 1e9:.2f}", f"{flops / ms / 1e6:.0f}"] for what, ms, flops in rows])
    )


if __name__ == "__main__":
    main(sys.argv[1])

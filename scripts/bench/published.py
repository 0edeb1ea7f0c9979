"""The parts of a step of the published size, on one core with the half batch that each of two cores takes, and beside
them what matrix products of the same shapes reach alone: what forbids more.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array

from bench.flops import counted, flop
from bench.parts import everywhere, milliseconds
from bench.workers import PAPER
from windtunnel import train
from windtunnel.compose import compose
from windtunnel.config import Study
from windtunnel.optimizers import optimizer
from windtunnel.spec import arrays
from windtunnel.sweep.packs import use_all_cores

STEPS = 5
HALF = [*PAPER.overrides, f"train.batch={PAPER.batch // 2}"]


class Part:
    """`once`: one pass of a part, from the carry to the carry, so that no pass can be left out or done beforehand."""

    def __init__(self, once: Callable[[Any], Any], carry: Any):
        self.gflop = counted(once, carry) / 1e9
        run = jax.jit(lambda carry: lax.fori_loop(0, STEPS, lambda _, carry: once(carry), carry))
        self.ms = milliseconds(lambda: run(carry), STEPS)

    def line(self, what: str) -> list[str]:
        return [what, f"{self.ms:.1f}", f"{self.gflop:.2f}", f"{self.gflop / self.ms * 1e3:.0f}"]


def drawn(study: Study, tables: Any, number: Array) -> Any:
    key = jax.random.fold_in(train.stream(study, train.DATA), number)
    return train.examples(study, tables, key, jnp.arange(study.train.batch))


def model_parts() -> list[list[str]]:
    """Data with their exact posterior, the model forwards, with its gradient, and the optimiser."""
    study = arrays(compose(HALF)[0])
    tables, state = train.prepare(study), train.start(study)
    batch = drawn(study, tables, jnp.int32(0))
    tokens = study.tunnel.scored(study.horizon)

    def data(number: Array) -> Array:
        own = drawn(study, tables, number)
        log_p = study.tunnel.log_predictive(tables, own, jnp.arange(study.horizon))
        return number + 1 + (log_p.sum() > 0).astype(jnp.int32)

    def loss(params: Any) -> Array:
        log_q_BPV = jax.nn.log_softmax(train.model(study, params)(batch.inputs, tokens))
        return -log_q_BPV.mean()

    def forwards(params: Any) -> Any:
        value = loss(params)
        return jax.tree.map(lambda leaf: leaf + 1e-9 * value, params)

    def gradient(params: Any) -> Any:
        return jax.tree.map(lambda leaf, slope: leaf - 1e-6 * slope, params, jax.grad(loss)(params))

    def optimised(carry: Any) -> Any:
        params, memory = carry
        updates, memory = optimizer(study.train).update(state.params, memory, params)
        return optax.apply_updates(params, updates), memory

    return [
        Part(data, jnp.int32(0)).line("drawing, and the exact posterior"),
        Part(forwards, state.params).line("the model forwards"),
        Part(gradient, state.params).line("the model and its gradient"),
        Part(optimised, (state.params, state.optimizer)).line("Muon, all matrices"),
    ]


def products() -> list[list[str]]:
    """Matrix products alone: of all tokens of a half batch with the matrices of a layer, and a large one."""
    study = compose(HALF)[0]
    rows, width = study.train.batch * study.tunnel.tokens(study.horizon), study.model.width
    lines = []
    for what, shape in {
        f"product {rows:,} × {width} × {width}": (rows, width, width),
        f"product {rows:,} × {width} × {4 * width}": (rows, width, 4 * width),
        f"product {rows:,} × {4 * width} × {width}": (rows, 4 * width, width),
        f"product {width} × {rows:,} × {4 * width}, as in a gradient": (width, rows, 4 * width),
        "product 2,048 × 2,048 × 2,048": (2048, 2048, 2048),
    }.items():
        n, k, m = shape
        right = jnp.ones((k, m))

        def product(left: Array, right: Array) -> Array:
            return left * (1 + 1e-9 * (left @ right)[:, :1])

        lines.append(Part(partial(product, right=right), jnp.ones((n, k))).line(what))
    return lines


def published() -> list[list[str]]:
    lines = []
    for where in ("one core", "all cores"):
        run = subprocess.run(
            [sys.executable, "-m", "bench.published", where],
            cwd=sys.path[0],
            capture_output=True,
            text=True,
            check=True,
        )
        lines += json.loads(run.stdout.splitlines()[-1])
    return lines


def main(where: str) -> None:
    if where == "one core":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        study = arrays(compose(HALF)[0])
        tables, state = train.prepare(study), train.start(study)
        advance: Any = jax.jit(partial(train.advance, study, tables, steps=jnp.int32(1)))
        whole = Part(lambda state: advance(state)[0], state).line("a step")
        lines = [[f"one core: {what}", *rest] for what, *rest in [whole, *model_parts(), *products()]]
    else:
        use_all_cores()
        ms, gflop = everywhere(PAPER.overrides, STEPS), flop(PAPER.overrides) / 1e9
        lines = [["all cores: a step of twice as many, split", f"{ms:.1f}", f"{gflop:.2f}", f"{gflop / ms * 1e3:.0f}"]]
    print(json.dumps(lines))


if __name__ == "__main__":
    main(sys.argv[1])

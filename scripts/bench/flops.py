"""Prints the floating-point operations of a step of the published size, as XLA counts them before it optimises, and the
rate of the machine's fastest float32 matrix product, by XLA or PyTorch, at sizes from 512 to 4,096.
"""

import time
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import torch

from bench.workers import PAPER, ROUNDS
from windtunnel import train
from windtunnel.compose import compose
from windtunnel.spec import arrays


def flop(overrides: list[str]) -> float:
    """The operations of one step. XLA counts the body of a loop once, and a step is such a body."""
    study = arrays(compose(overrides)[0])
    tables, state = train.prepare(study), jax.eval_shape(train.start, study)
    counted: Any = jax.jit(train.advance).lower(study, tables, state, jnp.int32(1)).cost_analysis()
    return counted["flops"]


def rate(product, matrix, size: int) -> float:
    """Operations per second of a product, the median over rounds."""
    times = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        for _ in range(max(1, 2**33 // size**3)):
            product(matrix)
        times.append((time.perf_counter() - began) / max(1, 2**33 // size**3))
    return 2 * size**3 / median(times[1:])


def main() -> None:
    rates = []
    by_xla = jax.jit(lambda x: x @ x)
    for size in (512, 1024, 2048, 4096):
        rates.append(rate(lambda x: by_xla(x).block_until_ready(), jnp.ones((size, size)), size))
        rates.append(rate(lambda x: x @ x, torch.ones(size, size), size))
    print(flop(PAPER.overrides), max(rates) / 1e9)


if __name__ == "__main__":
    main()

"""Prints the floating-point operations of a step of the published size, as XLA counts them before it optimises, and the
rate of the machine's fastest float32 matrix product, by XLA or PyTorch, at sizes from 512 to 4,096.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import torch
from optax.contrib import MuonState

from bench.workers import PAPER, ROUNDS
from windtunnel import train
from windtunnel.compose import compose
from windtunnel.spec import arrays


def flop(overrides: list[str]) -> float:
    """The operations of one step."""
    study = arrays(compose(overrides)[0])
    tables, state = train.prepare(study), jax.eval_shape(train.start, study)
    return counted(train.advance, study, tables, state, jnp.int32(1))


def counted(function: Callable[..., Any], *arguments: Any) -> float:
    """The operations of a function as XLA counts them. It counts the body of a loop once, and a step is such a body; so
    the iterations of Newton and Schulz, a loop within if each has coefficients of its own, are written out here.
    """

    def with_one(state: Any) -> Any:
        one = jax.ShapeDtypeStruct((3,), jnp.float32)
        return state._replace(ns_coeffs=one) if isinstance(state, MuonState) else state  # pyrefly: ignore

    shapes = jax.eval_shape(lambda *arguments: arguments, *arguments)
    shapes = jax.tree.map(with_one, shapes, is_leaf=lambda node: isinstance(node, MuonState))
    analysis: Any = jax.jit(lambda *arguments: function(*arguments)).lower(*shapes).cost_analysis()
    return analysis["flops"]


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

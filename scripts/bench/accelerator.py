"""The table for an accelerator: packs of 1, 8, 64 and 512 studies, in float32 and with products in bfloat16."""

import time
from statistics import median

import jax

from bench.workers import ROUNDS, SMALL
from windtunnel.compose import compose
from windtunnel.sweep.packs import Program

PACKS, PRECISIONS = (1, 8, 64, 512), ("float32", "bfloat16")
STEPS, CALL = 600, 60
HEAD = ["pack", "products in", "model-steps/s", "KL after 600 steps, bits"]


def accelerator() -> list[list[str]]:
    """The lines of the table; none if JAX finds no GPU or TPU."""
    if jax.default_backend() == "cpu":
        return []
    lines = []
    for precision in PRECISIONS:
        for size in PACKS:
            with jax.default_matmul_precision("highest" if precision == "float32" else precision):
                rate, kl_bits = measure(size)
            lines.append([f"{size}", precision, f"{rate:,.0f}", f"{kl_bits:.1e}"])
            print("  " + ", ".join(lines[-1]), flush=True)
    return lines


def measure(size: int) -> tuple[float, float]:
    """Model-steps per second (median over calls), and the mean KL over the last steps and the pack."""
    program = Program([compose([*SMALL.overrides, f"train.steps={STEPS}", f"seed={seed}"])[0] for seed in range(size)])
    state, curves = program.advance(program.start(), CALL)
    seconds = []
    for _ in range(STEPS // CALL - 1):
        began = time.perf_counter()
        state, curves = program.advance(state, CALL)
        jax.block_until_ready(curves)
        seconds.append(time.perf_counter() - began)
    assert len(seconds) >= ROUNDS
    return size * CALL / median(seconds), float(curves["kl_bits"][:size, CALL - 10 : CALL].mean())

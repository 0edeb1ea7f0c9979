"""`make bench`: the cost of judging a model far past its horizon, for docs/benchmarks.md.

Two layers of width 64 are trained for 500 steps, so that keys and queries have realistic norms, then judged on 8
sequences of `recall` of 8,000 to 64,000 tokens. Each case runs in a process of its own, to measure its peak memory.
"""

import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from page import fill
from windtunnel.compose import compose
from windtunnel.judge import exact_program
from windtunnel.spec import arrays
from windtunnel.sweep.packs import Program, use_all_cores

POSITIONS = {"uniform": "no prior", "generalized_gaussian": "heavy tail, β = 0.5", "gaussian": "short tail"}
HORIZON_REACH = [(64, 125), (64, 250), (64, 500), (128, 500)]
STEPS = 500
DOC = Path("docs/benchmarks.md")


def measure(position: str, horizon: int, reach: int) -> list[str]:
    """One line of the table."""
    use_all_cores()
    overrides = [
        f"position={position}", "model.layers=2", f"train.steps={STEPS}", f"train.horizon={horizon}",
        f"evaluate.reach={reach}", "evaluate.examples=8"]  # fmt: skip
    study = compose(overrides)[0]
    program = Program([study])
    state, done = program.start(), 0
    while done < STEPS:
        state, _ = program.advance(state, min(100, STEPS - done))
        done += 100
    program.memory("predict")  # compiled before the clock starts
    began = time.perf_counter()
    predicted = program.predict(state.params)
    judged = time.perf_counter()
    of_model = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    exact = exact_program.lower(arrays(study)).compile()
    compiled = time.perf_counter()
    jax.block_until_ready(exact(arrays(study)))
    took = time.perf_counter() - compiled
    of_both = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    skipped = ", ".join(f"{np.mean(reading.skipped_B):.0%}" for reading in predicted.readings)
    return [POSITIONS[position], f"{study.problem.length:,}", f"{judged - began:.1f}", f"{of_model:.2f}",
            f"{took:.1f}", f"{of_both:.2f}", skipped]  # fmt: skip


def main() -> None:
    if len(sys.argv) > 1:
        print(" | ".join(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
        return
    head = ["prior over positions", "tokens", "model, s", "peak, GB", "exact reasoners, s", "peak with them, GB",
            "blocks skipped in layer 1, 2"]  # fmt: skip
    lines = [" | ".join(head), " | ".join(["---"] + ["---:"] * (len(head) - 1))]
    for position in POSITIONS:
        for horizon, reach in HORIZON_REACH:
            command = [sys.executable, __file__, position, str(horizon), str(reach)]
            lines.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
            print(lines[-1], flush=True)
    where = f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, jax {jax.__version__}"
    load = f"load average {os.getloadavg()[2]:.1f} over the last 15 minutes: 2 would be this program alone"
    table = "\n".join([f"{where}; {load}.", "", *(f"| {line} |" for line in lines)])
    fill(DOC, "reach", table)


if __name__ == "__main__":
    main()

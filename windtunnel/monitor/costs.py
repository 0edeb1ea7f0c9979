"""What a prediction costs: time and memory over the length, and the time of a token at the longest."""

import time
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from windtunnel.config import Study
from windtunnel.monitor.look import FIRST
from windtunnel.problem import Problem
from windtunnel.train import finished, model

SHARES, REPEATS = (0.25, 0.5, 1.0), 5  # lengths, of the longest; of so many runs the fastest counts


class Costs(NamedTuple):
    """The slopes of log time and of log temporary memory on log length, from a quarter to all of the evaluated length;
    and the milliseconds that all layers take for a token of the longest. A linear cost has the exponent 1.
    """

    exponent: float
    memory: float
    latency_ms: float


def costs(study: Study, params: Any) -> Costs:
    """One sequence, all of its last octave's tokens predicted, compiled for each length by itself."""
    seconds, bytes_, tokens = [], [], []
    for share in SHARES:
        length = max(2, round(study.problem.length * share))
        problem = replace(study.problem, evaluate=replace(study.evaluate, reach=length / study.horizon))
        scored = study.tunnel.scored(length)

        def predict(study: Study, params: Any, problem: Problem = problem, scored: np.ndarray = scored) -> Any:
            module = model(study, finished(study, params))
            return problem.each(lambda batch: module(batch.inputs, scored[len(scored) // 2 :]), FIRST + np.arange(1))

        program = jax.jit(predict).lower(study, params).compile()
        jax.block_until_ready(program(study, params))
        runs = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            jax.block_until_ready(program(study, params))
            runs.append(time.perf_counter() - began)
        seconds.append(min(runs))
        bytes_.append(max(1, program.memory_analysis().temp_size_in_bytes))
        tokens.append(study.tunnel.tokens(length))
    slopes = [float(np.polyfit(np.log(tokens), np.log(of), 1)[0]) for of in (seconds, bytes_)]
    return Costs(*slopes, 1e3 * seconds[-1] / tokens[-1])

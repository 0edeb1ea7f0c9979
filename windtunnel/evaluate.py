"""Evaluation: one causal pass over sequences far longer than the horizon, read at log-spaced observations."""

from typing import Any, NamedTuple

import jax
from jaxtyping import Array

from windtunnel import faults
from windtunnel.config import Study
from windtunnel.models.blocks import Reading
from windtunnel.models.depth import Iterations
from windtunnel.models.tap import Closed
from windtunnel.train import model
from windtunnel.tunnels import Batch


class Predicted(NamedTuple):
    """What the model says of the evaluation sequences at the scored tokens, and how its attention was computed."""

    log_predictive: Array  # [B, P, V] nats
    readings: list[Reading]  # one per layer passed, from the bottom; none where there is no attention
    iterations: Iterations | None  # of adaptive depth


def predict(study: Study, params: Any, numbers: Array) -> Predicted:
    """Of the model with these parameters, for the evaluation sequences that have these numbers."""
    problem, module = study.problem, model(study, params)
    tap = faults.tap(study.monitor.fault, study.train.steps, Closed())  # a fault that lasts is there when it is judged

    def one(batch: Batch) -> Predicted:
        readings: list[Any] = []
        log_q_BPV = jax.nn.log_softmax(module(batch.inputs, problem.tokens, tap=tap, readings=readings))
        iterations = [reading for reading in readings if isinstance(reading, Iterations)]
        readings = [reading for reading in readings if isinstance(reading, Reading)]
        return Predicted(log_q_BPV, readings, iterations[0] if iterations else None)

    return problem.each(one, numbers)

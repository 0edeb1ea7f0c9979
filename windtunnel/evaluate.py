"""Evaluation: one causal pass over sequences far longer than the horizon, read at log-spaced observations."""

from typing import Any, NamedTuple

import jax
from jaxtyping import Array

from windtunnel.config import Study
from windtunnel.models.blocks import Reading
from windtunnel.train import model
from windtunnel.tunnels import Batch


class Predicted(NamedTuple):
    """What the model says of the evaluation sequences at the scored tokens, and how its attention was computed."""

    log_predictive: Array  # [B, P, V] nats
    readings: list[Reading]  # one per layer passed, from the bottom; none where there is no attention


def predict(study: Study, params: Any, numbers: Array) -> Predicted:
    """Of the model with these parameters, for the evaluation sequences that have these numbers."""
    problem, module = study.problem, model(study, params)

    def one(batch: Batch) -> Predicted:
        readings: list[Reading] = []
        return Predicted(jax.nn.log_softmax(module(batch.inputs, problem.tokens, readings=readings)), readings)

    return problem.each(one, numbers)

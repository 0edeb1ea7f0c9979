"""Evaluation: one causal pass over sequences up to 500 horizons long, scored at log-spaced positions.

Sequences are made, read and forgotten one at a time, so memory does not grow with their number.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from windtunnel.bins import Bin, bins, scored
from windtunnel.config import Study
from windtunnel.models import with_parameters
from windtunnel.models.blocks import Reading
from windtunnel.train import START, build, stream
from windtunnel.tunnels import Batch

EVALUATION = 2**31 - 1  # the stream of evaluation keys: training uses 0, 1, 2


class Exact(NamedTuple):
    """What exact reasoners say of the evaluation sequences, at the scored positions."""

    log_predictive: Array  # [B, P, V] nats
    full: Array | None  # the same of a reasoner that does not know the pool, where there is one
    baselines: dict[str, Array]  # each [B, P, V] nats
    outcome: Array  # int32[B, P]
    weight: Array  # [B, P]


def scored_bins(study: Study) -> list[Bin]:
    return bins(study.horizon, study.length, study.evaluate.examples)


def exact(study: Study) -> Exact:
    """The oracle's answers. They depend on the tunnel, the horizon and the evaluation, not on the model."""
    at = jnp.asarray(scored(scored_bins(study)))
    tables = study.tunnel.prepare(study.length)

    def one(batch: Batch) -> Exact:
        return Exact(
            study.tunnel.log_predictive(tables, batch, at),
            study.tunnel.log_full_predictive(tables, batch, at) if study.tunnel.pool else None,
            study.tunnel.baselines(tables, batch, at, study.horizon),
            batch.outcome_BP[:, at],
            batch.weight_BP[:, at],
        )

    return each_example(study, one, jnp.arange(study.evaluate.examples))


class Predicted(NamedTuple):
    """What the model says of the evaluation sequences at the scored positions, and how its attention was computed."""

    log_predictive: Array  # [B, P, V] nats
    readings: list[Reading]  # one a layer, from the bottom; none where there is no attention


class Readings:
    """A tap that keeps how attention was computed."""

    rows = False

    def __init__(self) -> None:
        self.kept: list[Reading] = []

    def __call__(self, name: str, value: Any) -> Any:
        if name.endswith(".reading"):
            self.kept.append(value)
        return value


def predict(study: Study, params: Any, numbers: Array) -> Predicted:
    """Of the model with these parameters, for the evaluation sequences that have these numbers."""
    model = with_parameters(build(study, stream(study, START)), params)
    at = study.tunnel.scored(study.length)[scored(scored_bins(study))]

    def one(batch: Batch) -> Predicted:
        readings = Readings()
        return Predicted(jax.nn.log_softmax(model(batch.inputs, at, tap=readings)), readings.kept)

    return each_example(study, one, numbers)


def each_example(study: Study, judge: Callable[[Batch], Any], numbers: Array) -> Any:
    """Apply `judge` to evaluation sequences in turn, as batches of one, and put the results together."""
    tables = study.tunnel.prepare(study.length)
    root = jax.random.fold_in(jax.random.key(study.evaluate.seed), EVALUATION)

    def one(number: Array) -> Any:
        batch = study.tunnel.sample(jax.random.fold_in(root, number), tables, 1, study.length)
        return jax.tree.map(lambda leaf: leaf[0], judge(batch))

    return lax.map(one, numbers)

"""A problem posed to a model from outside, in Python."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from windtunnel import plugins
from windtunnel.compose import compose
from windtunnel.external.text import Prompt, Text
from windtunnel.judge import Judge
from windtunnel.problem import Exact, Problem
from windtunnel.spec import arrays
from windtunnel.train import DATA, examples


class Evaluation(NamedTuple):
    """The sequences that a model is judged on, as numpy arrays. Predictions are asked for at `tokens`: P of them."""

    inputs: np.ndarray  # int32[B, T], or float32[B, T, F]
    tokens: np.ndarray  # int[P]: indices into T; predict the outcome from inputs[:, : token + 1]
    observations: np.ndarray  # int[P]: which observation that is, from 1
    outcome: np.ndarray  # int32[B, P]: what was drawn
    weight: np.ndarray  # float32[B, P]: 0 where a prediction does not count


class TrainingBatch(NamedTuple):
    """A batch of training sequences, as numpy arrays: one outcome to predict for every observation."""

    inputs: np.ndarray  # int32[b, T], or float32[b, T, F]
    tokens: np.ndarray  # int[L]
    outcome: np.ndarray  # int32[b, L]
    weight: np.ndarray  # float32[b, L]
    log_exact: np.ndarray  # float32[b, L, V], nats: the exact predictive, to train on or to look at


@dataclass(frozen=True)
class Posed:
    """A problem, and how it is handed over: sequences in a training batch, and how tokens are written as text."""

    problem: Problem
    batch: int = 32
    text: Text | None = None
    _judge: Judge = field(default_factory=Judge, repr=False, compare=False)

    @property
    def plugins(self) -> list[str]:
        """The plug-ins that the tunnel comes from."""
        return plugins.sources(self.problem)

    @property
    def vocabulary(self) -> int:
        """How many tokens there are; 0 where the inputs are features."""
        return self.problem.tunnel.vocabulary

    @property
    def features(self) -> int:
        """F of inputs [B, T, F]; 0 where they are tokens."""
        return self.problem.tunnel.features

    @property
    def outcomes(self) -> int:
        """V: how many outcomes a prediction chooses from."""
        return self.problem.tunnel.outcomes

    @cached_property
    def evaluation(self) -> Evaluation:
        inputs = np.asarray(_inputs(arrays(self.problem)))
        exact, bins = self.exact, self.problem.bins
        return Evaluation(inputs, self.problem.tokens, bins.at + 1, exact.outcome, exact.weight)

    @property
    def exact(self) -> Exact:
        """What exact reasoners say, as numpy arrays: `log_predictive` [B, P, V] and `baselines`, nats."""
        return self._judge.exact(self.problem)

    def batches(self, seed: int = 0) -> Iterator[TrainingBatch]:
        """Training batches without end: those that a native study of this seed sees, step by step."""
        knobs, tokens = arrays(self.problem), self.problem.tunnel.scored(self.problem.horizon)
        step = 0
        while True:
            batch, log_exact = jax.tree.map(np.asarray, _training(knobs, self.batch, seed, step))
            yield TrainingBatch(batch.inputs, tokens, batch.outcome_BP, batch.weight_BP, log_exact)
            step += 1

    def prompts(self) -> list[Prompt]:
        """The evaluation sequences as text, for language models."""
        return (self.text or Text()).prompts(self.problem, self.evaluation.inputs)

    def judge(
        self,
        predictions: np.ndarray | Callable[[np.ndarray, np.ndarray], Any],
        name: str,
        *,
        logits: bool = False,
        seed: int = 0,
        runs: str | Path = "runs",
        other_mass: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """The verdict on log-probabilities [B, P, V] (nats; with `logits`, before they are normalised), or on a model
        `f(inputs, tokens)` that gives them; it is recorded in `<runs>/external/`, and returned. `other_mass` [B, P] is
        what the model gave to anything but the outcomes, where they are part of a larger vocabulary.
        """
        from windtunnel.external.predictions import Predictions, check_name, record

        check_name(name)
        values = predictions
        if callable(predictions):
            values = predictions(self.evaluation.inputs, self.evaluation.tokens)
        given = Predictions(np.asarray(values), "logits" if logits else "log_q", other_mass)
        return record(self, given, name, seed, Path(runs))[1]


def pose(*overrides: str) -> Posed:
    """The problem of the study that these overrides make, as in `pose("tunnel=recall", "evaluate.reach=16")`."""
    study, _ = compose(overrides)
    return Posed(study.problem, study.train.batch)


@jax.jit
def _inputs(problem: Problem) -> Any:
    return problem.each(lambda batch: batch.inputs, jnp.arange(problem.evaluate.examples))


@partial(jax.jit, static_argnums=1)
def _training(problem: Problem, size: int, seed: Any, step: Any) -> Any:
    tables = problem.tunnel.prepare(problem.horizon)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), DATA), step)
    batch = examples(problem, tables, key, jnp.arange(size))
    return batch, problem.tunnel.log_predictive(tables, batch, jnp.arange(problem.horizon))

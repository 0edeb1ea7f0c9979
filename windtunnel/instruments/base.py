"""The subject of an instrument: a study, what taps see of its model on sequences that training never saw, and nulls.

In shapes, L is the layers with attention.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel.config import Study
from windtunnel.information import kl_bits
from windtunnel.models import parameters
from windtunnel.models.tap import Collect, Tap
from windtunnel.train import build, examples, model, prepare, stream
from windtunnel.tunnels import Batch
from windtunnel.tunnels.answers import Frame

EXAMPLES = 32  # sequences that instruments use: the first of the study's evaluation sequences
FRESH = 3  # the random stream of the null's initialisation; training uses the streams 0, 1, 2

Json = dict[str, Any]
Build = Callable[[Study, Any], Any]  # a model from a study and its parameters


class Seen(NamedTuple):
    """What taps saw on B sequences of one horizon. Attention and scores have rows for all T tokens."""

    batch: Batch
    taps: dict[str, dict[int, Array]]  # by kind and depth
    log_exact_BPV: Array  # the exact predictive, nats
    log_model_BPV: Array
    log_target_BPT: Array | None  # the exact posterior, as weights over tokens
    log_domains_BPK: Array | None  # the exact posterior over K domains, for tunnels with domains
    frame: Frame | None  # the hypotheses that tokens represent
    tokens: Array  # [P]: the tokens at which outcomes are predicted

    @property
    def depths(self) -> list[int]:
        """The depths that have attention, from the bottom."""
        return sorted(self.taps.get("attention", {}))


def no_attention(study: Study) -> str | None:
    """Why taps see no attention of the study's model, or None."""
    if study.position is None:
        return f"model {study.model.name} has no attention"
    return None if study.model.depth is None else f"model {study.model.name} with adaptive depth shows no attention"


class Edit(NamedTuple):
    """An intervention on attention. Where `replace_LN` and `has_BP` are true, `rows_BPT` replace a head's attention at
    the scored tokens. The context of heads in `erase_LN` becomes zero. `shift_LBNTd` is added to the keys.
    """

    replace_LN: Array | np.ndarray
    rows_BPT: Array | np.ndarray
    has_BP: Array | np.ndarray
    erase_LN: Array | np.ndarray
    shift_LBNTd: Array | np.ndarray


@dataclass(frozen=True)
class Subject:
    """A study to be measured, with arrays for knobs. `model` makes a model from the study and parameters. `null` are
    the parameters of an untrained model; by default those of a random initialisation.
    """

    study: Study
    params: Any
    folder: Path | None = None
    model: Build = model
    null: Any = None

    @cached_property
    def seen(self) -> Seen:
        return look(self.study, self.params, EXAMPLES, self.model)

    @cached_property
    def untrained(self) -> Seen:
        """`seen` for a random initialisation of the same shape: the null for everything that training is said to
        cause.
        """
        return look(self.study, fresh(self.study) if self.null is None else self.null, EXAMPLES, self.model)

    @cached_property
    def weighs_tokens(self) -> bool:
        """Whether the tunnel's posterior can be written as weights over tokens. Only shapes are computed."""

        def weights(study: Study) -> Array | None:
            tables, batch = sequences(study, 1)
            return study.tunnel.token_weights(tables, batch, jnp.arange(study.horizon))

        return jax.eval_shape(weights, self.study) is not None

    def log_predictive(self, edit: Edit) -> np.ndarray:
        """[B, P, V]: the model's log-predictive under an intervention, nats."""
        return np.asarray(intervened(self.study, self.params, EXAMPLES, self.model, edit))

    def kl_bits(self, edit: Edit) -> np.ndarray:
        """[B, P]: KL to the exact posterior of the model under an intervention."""
        return kl_bits(np.asarray(self.seen.log_exact_BPV), self.log_predictive(edit))

    def no_edit(self) -> Edit:
        """The intervention that changes nothing; callers change it with `_replace`."""
        keys = [np.asarray(self.seen.taps["keys"][depth]) for depth in self.seen.depths]
        none_LN = np.zeros((len(keys), keys[0].shape[1]), bool)
        points, tokens = self.seen.log_exact_BPV.shape[1], keys[0].shape[2]
        rows_BPT = np.zeros((EXAMPLES, points, tokens), keys[0].dtype)
        return Edit(none_LN, rows_BPT, np.ones(rows_BPT.shape[:2], bool), none_LN, np.zeros_like(np.stack(keys)))


@jax.jit
def fresh(study: Study) -> Any:
    """Parameters of a random initialisation, other than the one that the study started from."""
    return parameters(build(study, stream(study, FRESH)))


def sequences(study: Study, count: int) -> tuple[Any, Batch]:
    """The tunnel's tables, and sequences of one horizon that training never sees: the same for all studies of a
    tunnel.
    """
    tables = prepare(study)
    return tables, examples(study, tables, study.problem.key, jnp.arange(count))


@partial(jax.jit, static_argnames=("count", "model"))
def look(study: Study, params: Any, count: int, model: Build) -> Seen:
    """Run the model on `count` sequences and collect every tapped value. Compiled once for each structure of study."""
    tunnel, (tables, batch) = study.tunnel, sequences(study, count)
    taps = Collect()
    tokens, every = tunnel.scored(study.horizon), jnp.arange(study.horizon)
    logits_BTV = model(study, params)(batch.inputs, np.arange(batch.inputs.shape[1]), tap=taps)
    return Seen(
        batch,
        taps.seen,
        tunnel.log_predictive(tables, batch, every),
        jax.nn.log_softmax(logits_BTV[:, tokens]),
        tunnel.token_weights(tables, batch, every),
        tunnel.log_domains(tables, batch, every),
        tunnel.frame(tables, batch),
        jnp.asarray(tokens),
    )


@partial(jax.jit, static_argnames=("count", "model"))
def intervened(study: Study, params: Any, count: int, model: Build, edit: Edit) -> Array:
    """[B, P, V]: the model's log-predictive (nats) under an intervention. One program serves all interventions."""
    _, batch = sequences(study, count)
    tokens = study.tunnel.scored(study.horizon)

    def change(depth: int, kind: str, value: Any) -> Any:
        if kind == "keys":
            return value + edit.shift_LBNTd[depth]
        if kind == "attention":
            given_BNPT = jnp.where(edit.has_BP[:, None, :, None], edit.rows_BPT[:, None], value[:, :, tokens])
            replaced_BNTT = value.at[:, :, tokens].set(given_BNPT)
            return jnp.where(edit.replace_LN[depth][None, :, None, None], replaced_BNTT, value)
        return jnp.where(edit.erase_LN[depth][None, :, None, None], 0.0, value)

    tap = Tap(change, "keys", "attention", "context")
    logits_BTV = model(study, params)(batch.inputs, np.arange(batch.inputs.shape[1]), tap=tap)
    return jax.nn.log_softmax(logits_BTV[:, tokens])


def visible(tokens: int) -> np.ndarray:
    """bool[T, T]: which keys each query can see."""
    return np.tril(np.ones((tokens, tokens), bool))


def finite(value: Any) -> Any:
    """The value for JSON: numbers as Python floats, and None for those that are not finite."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value

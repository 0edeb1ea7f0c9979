"""What an instrument is given: a study, its model opened by taps, sequences that never trained, and its nulls."""

import math
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel.compare import kl_bits
from windtunnel.config import Study
from windtunnel.evaluate import EVALUATION
from windtunnel.instruments.hypotheses import targets
from windtunnel.models import parameters, with_parameters
from windtunnel.train import START, build, examples, prepare, stream
from windtunnel.tunnels import Batch, Hmm, Mixture

EXAMPLES = 32  # sequences that are looked at: the first of those that the study is judged on
FRESH = 3  # the stream of the random initialisation that is a null: training uses 0, 1, 2

Json = dict[str, Any]


class Seen(NamedTuple):
    """What the taps showed of B sequences of one horizon. Attention rows and scores are those of all T tokens."""

    batch: Batch
    taps: dict[str, Array]
    log_exact_BPV: Array  # the exact predictive, nats
    log_model_BPV: Array
    log_target_BPT: Array | None  # the exact posterior, as weights over tokens (`hypotheses.py`)
    log_posterior_BPH: Array | None  # over states or domains, where these are hypotheses
    scored: Array  # [P]: the tokens at which outcomes are predicted

    @property
    def depths(self) -> list[int]:
        """The layers passed through, from the bottom; those that have attention."""
        return sorted(int(name.split(".")[0]) for name in self.taps if name.endswith(".attention"))


class Edit(NamedTuple):
    """An intervention on attention. `rows_BPT` take the place of a head's rows at the scored tokens where `replace_LN`
    and `has_BP` are true; the context of heads in `erase_LN` becomes zero; `shift_LBNTd` is added to the keys.
    """

    replace_LN: Array | np.ndarray
    rows_BPT: Array | np.ndarray
    has_BP: Array | np.ndarray
    erase_LN: Array | np.ndarray
    shift_LBNTd: Array | np.ndarray


@dataclass(frozen=True)
class Subject:
    """A trained study on the table. Its knobs are arrays."""

    study: Study
    params: Any
    folder: Path | None = None

    @cached_property
    def seen(self) -> Seen:
        return look(self.study, self.params, EXAMPLES)

    @cached_property
    def untrained(self) -> Seen:
        """The same of a random initialisation of the same shape: the null of whatever training is said to have made."""
        return look(self.study, fresh(self.study), EXAMPLES)

    def kl_bits(self, edit: Edit) -> np.ndarray:
        """[B, P]: KL to the exact posterior of the model under an intervention."""
        log_q_BPV = intervened(self.study, self.params, EXAMPLES, edit)
        return kl_bits(np.asarray(self.seen.log_exact_BPV), np.asarray(log_q_BPV))

    def no_edit(self) -> Edit:
        """The intervention that does nothing, to be changed by `_replace`."""
        keys = [np.asarray(self.seen.taps[f"{depth}.keys"]) for depth in self.seen.depths]
        none_LN = np.zeros((len(keys), keys[0].shape[1]), bool)
        points, tokens = self.seen.log_exact_BPV.shape[1], keys[0].shape[2]
        rows_BPT = np.zeros((EXAMPLES, points, tokens), keys[0].dtype)
        return Edit(none_LN, rows_BPT, np.ones(rows_BPT.shape[:2], bool), none_LN, np.zeros_like(np.stack(keys)))


@jax.jit
def fresh(study: Study) -> Any:
    """Parameters of a random initialisation that is not the one the study began with."""
    return parameters(build(study, stream(study, FRESH)))


def sequences(study: Study, count: int) -> tuple[Any, Batch]:
    """The tunnel's tables, and sequences of one horizon: the same for every study of a tunnel; none of them trained."""
    tables = prepare(study)
    root = jax.random.fold_in(jax.random.key(study.evaluate.seed), EVALUATION)
    return tables, examples(study, tables, root, jnp.arange(count))


@partial(jax.jit, static_argnames="count")
def look(study: Study, params: Any, count: int) -> Seen:
    """Run the model on `count` sequences with every tap open. Compiled once for each structure of study."""
    tables, batch = sequences(study, count)
    taps: dict[str, Array] = {}

    def tap(name: str, value: Any) -> Any:
        if not name.endswith("reading"):
            taps[name] = value
        return value

    scored = study.tunnel.scored(study.horizon)
    every = jnp.arange(study.horizon)
    logits_BTV = model(study, params)(batch.inputs, np.arange(batch.inputs.shape[1]), tap=tap)
    return Seen(
        batch,
        taps,
        study.tunnel.log_predictive(tables, batch, every),
        jax.nn.log_softmax(logits_BTV[:, scored]),
        targets(study.tunnel, tables, batch, every),
        study.tunnel.log_posterior(tables, batch, every) if isinstance(study.tunnel, (Hmm, Mixture)) else None,
        jnp.asarray(scored),
    )


@partial(jax.jit, static_argnames="count")
def intervened(study: Study, params: Any, count: int, edit: Edit) -> Array:
    """[B, P, V]: the model's log-predictive (nats) under an intervention. One program for all of them."""
    _, batch = sequences(study, count)
    scored = study.tunnel.scored(study.horizon)

    def tap(name: str, value: Any) -> Any:
        depth, _, what = name.partition(".")
        if what == "keys":
            return value + edit.shift_LBNTd[int(depth)]
        if what == "attention":
            given_BNPT = jnp.where(edit.has_BP[:, None, :, None], edit.rows_BPT[:, None], value[:, :, scored])
            replaced_BNTT = value.at[:, :, scored].set(given_BNPT)
            return jnp.where(edit.replace_LN[int(depth)][None, :, None, None], replaced_BNTT, value)
        if what == "context":
            return jnp.where(edit.erase_LN[int(depth)][None, :, None, None], 0.0, value)
        return value

    logits_BTV = model(study, params)(batch.inputs, np.arange(batch.inputs.shape[1]), tap=tap)
    return jax.nn.log_softmax(logits_BTV[:, scored])


def model(study: Study, params: Any) -> Any:
    return with_parameters(build(study, stream(study, START)), params)


def visible(tokens: int) -> np.ndarray:
    """bool[T, T]: which keys each query can see."""
    return np.tril(np.ones((tokens, tokens), bool))


def finite(value: Any) -> Any:
    """For JSON: numbers as Python floats, and None for what is not finite."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value

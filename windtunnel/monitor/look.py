"""What a check looks at: a model on a few sequences that neither training nor judgement sees, to the evaluated length,
and what exact reasoners say of the same. Whatever is long is reduced on the device.

In shapes, H is the tokens of the horizon and R the orders in which a sequence is read.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel import faults
from windtunnel.config import Study
from windtunnel.instruments.base import Build
from windtunnel.models.blocks import Reading
from windtunnel.models.score import content
from windtunnel.models.tap import Collect, Tap
from windtunnel.train import examples, finished, model, prepare
from windtunnel.tunnels import Batch
from windtunnel.tunnels.answers import Frame

FIRST = 2**20  # the number of the first sequence: those that judge a model come before (`Evaluate.most_examples`)
ORDERS = 4  # R


class Asked(NamedTuple):
    """What exact inference says at the scored observations: what is asked of the model."""

    log_p_BPV: Any  # nats
    weight_BP: Any
    log_domains_BPK: Any  # of a mixed prompt
    frame: Frame | None
    entropy_BP: Any  # bits, of the exact posterior as weights over tokens, where it is one
    largest_BP: Any  # the largest of its log-weights (nats) above their mean


class Seen(NamedTuple):
    """What the model does there."""

    log_q_BPV: Any  # nats
    keys: dict[int, Any]  # by depth, [B, N, H, d], of the tokens of the horizon
    residual_BPD: Any
    entropy_BP: Any  # bits, of attention's rows, the mean over heads; None where there is no attention
    largest_BP: Any  # the largest score of a head above the mean of its row, nats
    missed_B: Any  # the share of a query's mass that an approximation misses, by its audit or its own evidence


def numbers(study: Study) -> Array:
    return FIRST + jnp.arange(study.monitor.examples)


@jax.jit
def asked(study: Study) -> Asked:
    problem, tunnel = study.problem, study.tunnel
    tables, at = tunnel.prepare(problem.length), jnp.asarray(problem.bins.at)

    def one(batch: Batch) -> Asked:
        target = tunnel.token_weights(tables, batch, at) if tunnel.weighs_far else None
        weights = (None, None) if target is None else (entropy_bits(jnp.exp(target)), above_mean(target))
        return Asked(
            tunnel.log_predictive(tables, batch, at),
            batch.weight_BP[:, at],
            tunnel.log_domains(tables, batch, at),
            tunnel.frame(tables, batch),
            *weights,
        )

    return problem.each(one, numbers(study))


@partial(jax.jit, static_argnames="build")
def seen(study: Study, params: Any, step: Array, build: Build = model) -> Seen:
    """Of the model that has done so many steps, under a fault if that is in force."""
    problem, tunnel = study.problem, study.tunnel
    module, tokens = build(study, finished(study, params)), problem.tokens
    horizon = tunnel.tokens(study.horizon)

    def one(batch: Batch) -> Seen:
        readings: list[Any] = []
        look = Look(tokens)
        log_q_BPV = jax.nn.log_softmax(
            module(batch.inputs, tokens, tap=faults.tap(study.monitor.fault, step, look), readings=readings)
        )
        audits = [r.certificates["audit_missed_mean"] for r in readings if isinstance(r, Reading) and r.certificates]
        return look.seen_by(log_q_BPV, audits, horizon)

    return problem.each(one, numbers(study))


class Look(Tap):
    """Reduces what it sees of a model at `tokens`."""

    def __init__(self, tokens: np.ndarray):
        super().__init__(self._look, "queries", "keys", "scores", "attention", "residual")
        self.tokens, self.keys, self.residual = tokens, dict[int, Array](), None
        self.entropy: list[Array] = []
        self.largest: list[Array] = []
        self.missed: list[Array] = []
        self.queries: Array | None = None
        self.right: dict[str, Array] = {}

    def original(self, depth: int, kind: str, value: Any) -> None:
        """What a fault is about to change."""
        self.right[kind] = value

    def _look(self, depth: int, kind: str, value: Any) -> Any:
        if kind == "keys":
            self.keys[depth] = value
        elif kind == "queries":
            self.queries = value
        elif kind == "residual":
            self.residual = value
        elif kind == "scores":
            self.largest.append(jnp.max(above_mean(value), axis=1))
            if self.right:
                self.missed.append(self._missed(value, self.keys[depth]))
        elif kind == "attention":
            self.entropy.append(jnp.mean(entropy_bits(value), axis=1))
        return value

    def _missed(self, score_BNPT: Array, keys: Array) -> Array:
        """[B]: the mean of 1 − Z̃/Z, where the fault's scores stand for the right ones."""
        assert self.queries is not None
        given, right = (
            content(q if q.shape[2] == len(self.tokens) else q[:, :, self.tokens], k)
            for q, k in (
                (self.queries, keys),
                (self.right.get("queries", self.queries), self.right.get("keys", keys)),
            )
        )
        right_BNPT = jnp.where(jnp.isfinite(score_BNPT), score_BNPT - given + right, -jnp.inf)
        log_z, log_right = (jax.nn.logsumexp(of, axis=-1) for of in (score_BNPT, right_BNPT))
        return jnp.mean(jnp.clip(1 - jnp.exp(log_z - log_right), 0, 1), axis=(1, 2))

    def seen_by(self, log_q_BPV: Array, audits: list[Array], horizon: int) -> Seen:
        attends = bool(self.entropy)
        states = self.residual
        assert states is not None  # every model has residual states
        return Seen(
            log_q_BPV,
            {depth: k_BNTd[:, :, :horizon] for depth, k_BNTd in self.keys.items()},
            states if states.shape[1] == len(self.tokens) else states[:, self.tokens],
            sum(self.entropy) / len(self.entropy) if attends else None,
            jnp.max(jnp.stack(self.largest), axis=0) if self.largest else None,
            jnp.max(jnp.stack([*audits, *self.missed]), axis=0) if audits or self.missed else None,
        )


def entropy_bits(weight: Array) -> Array:
    """Over the last axis."""
    return -jnp.sum(jnp.where(weight == 0, 0.0, weight * jnp.log2(jnp.maximum(weight, 1e-30))), axis=-1)


def above_mean(score: Array) -> Array:
    """The largest entry of the last axis above the mean of those that are finite: what a softmax does not ignore."""
    known = jnp.isfinite(score)
    mean = jnp.sum(jnp.where(known, score, 0.0), axis=-1) / jnp.maximum(jnp.sum(known, axis=-1), 1)
    return jnp.where(known.any(axis=-1), jnp.max(jnp.where(known, score, -jnp.inf), axis=-1) - mean, 0.0)


class Exchanged(NamedTuple):
    """Of a tunnel whose observations may come in any order, at the end of the horizon; nats."""

    log_orders_RBV: Any  # the predictive after the same observations in R orders
    log_now_BV: Any  # the predictive before the last observation
    log_then_VBV: Any  # the predictive after it, for every outcome that it could have


@jax.jit
def exchanged(study: Study, params: Any, step: Array) -> Exchanged:
    tunnel, count = study.tunnel, study.monitor.examples
    module = model(study, finished(study, params))
    batch = examples(study, prepare(study), study.problem.key, numbers(study))
    x_BT, outcome_V = batch.inputs, tunnel.outcome_tokens
    assert outcome_V is not None  # `exchangeable` tunnels show outcomes
    key = jax.random.fold_in(study.problem.key, FIRST - 1)

    def predicted(x_BT: Array, token: int) -> Array:
        tap = faults.tap(study.monitor.fault, step, Collect("logits"))
        return jax.nn.log_softmax(module(x_BT, np.asarray([token]), tap=tap)[:, 0])

    last = x_BT.shape[1] - 1
    mixed: list[Any] = [tunnel.reordered(jax.random.fold_in(key, r), x_BT) for r in range(ORDERS)]
    then = jnp.concatenate([x_BT.at[:, last].set(token) for token in outcome_V])
    return Exchanged(
        predicted(jnp.concatenate(mixed), last).reshape(ORDERS, count, -1),
        predicted(x_BT, last - 1),
        predicted(then, last).reshape(len(outcome_V), count, -1),
    )

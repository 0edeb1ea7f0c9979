"""Channels: where two sources disagree, does each weigh as much as its reliability says?

The design of cue-conflict experiments (Ernst & Banks 2002): on trials in which the two channels show different keys
(`Tunnel.crossed`, a condition that training never sees), predictions reveal the weights. The exact reasoner multiplies
the evidence of a channel by a gain λ that depends on its noise alone. The model's gains, one for each channel and level
of noise, are those of the reasoner that is nearest to it: they minimise, over trials,

    mean KL(model ‖ p_λ),    p_λ(j) ∝ prior(j) exp(Σ_i k_ji (λ_A x_i + λ_B y_i)).

So exact Bayes has the exact gains, and who does not see reliability has one gain for all levels of a channel. The
weight of A against B at two levels is λ_A/(λ_A + λ_B). Nulls: one half for each, and an untrained model.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel.config import Study
from windtunnel.information import kl_bits
from windtunnel.instruments.base import Build, Json, Subject, sequences
from windtunnel.instruments.routing import null
from windtunnel.tunnels import Batch

TRIALS = 64  # sequences, of one horizon each
LEAST, MOST = 1e-3, 1e2  # gains are sought between these


def refusal(subject: Subject) -> str | None:
    tunnel = subject.study.tunnel
    return f"the cues of {tunnel.name} come through one channel" if tunnel.channels is None else None


def measure(subject: Subject) -> Json:
    """`gains`: for each channel, by the levels of its `noise`, the `exact` gains, the `model`'s and the `untrained`
    model's; `weights`: those of A against B at all pairs of levels; `deviation`: the mean distance of the weights from
    the exact ones; `kl_bits` of the model on trials in conflict and `agreeing`.
    """
    study = subject.study
    channels = study.tunnel.channels
    assert channels is not None  # checked by `refusal`
    exact = {name: np.asarray(gain_L, float) for name, (_, gain_L) in channels.items()}
    log_q, log_p, log_q_same, log_p_same, agree = map(np.asarray, trials(study, subject.params, TRIALS, subject.model))
    log_untrained = trials(study, null(subject), TRIALS, subject.model)[0]
    fits = {
        name: fitted(study, jnp.asarray(of), exact) for name, of in (("model", log_q), ("untrained", log_untrained))
    }
    weights = {name: shares(gains) for name, gains in {"exact": exact, **fits}.items()}
    equal = np.full_like(weights["exact"], 0.5)

    def away(of: np.ndarray) -> float:
        return float(np.abs(of - weights["exact"]).mean())

    return {
        "gains": {
            name: {
                "noise": np.asarray(noise_L, float),
                "exact": exact[name],
                **{kind: fits[kind][name] for kind in fits},
            }
            for name, (noise_L, _) in channels.items()
        },
        "weights": weights,
        "deviation": {"model": away(weights["model"]), "untrained": away(weights["untrained"]), "equal": away(equal)},
        "kl_bits": float(kl_bits(log_p, log_q)[:, 1:].mean()),
        "agreeing": {"kl_bits": float(kl_bits(log_p_same, log_q_same)[:, 1:].mean())},
        "in_conflict": float(1 - agree[:, 1:].mean()),
    }


def lines(record: Json) -> list[str]:
    off = record["deviation"]
    sentences = [
        f"in conflict the weight of one channel against the other is {off['model']:.2g} from the exact one (one half "
        f"each {off['equal']:.2g}, untrained {off['untrained']:.2g}); KL {record['kl_bits']:.2g} bits there, "
        f"{record['agreeing']['kl_bits']:.2g} where the channels agree"
    ]
    for name, of in record["gains"].items():
        rows = (
            f"{model:.2f} for {exact:.2f} at {noise:.2g}"
            for noise, exact, model in zip(of["noise"], of["exact"], of["model"], strict=True)
        )
        sentences.append(f"gains of {name} by its noise: {', '.join(rows)}")
    return sentences


def headline(record: Json) -> dict[str, float | None]:
    return {"deviation": record["deviation"]["model"], "kl_conflict": record["kl_bits"]}


def shares(gains: dict[str, np.ndarray]) -> np.ndarray:
    """[L, L]: the first channel's share of both gains, at all pairs of levels."""
    first_L, second_L = gains.values()
    return first_L[:, None] / (first_L[:, None] + second_L[None])


def fitted(study: Study, log_q_BPV: Array, exact: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The gains of the reasoner that is nearest to these predictions on trials in conflict; from one gain for all."""
    from scipy.optimize import minimize

    start = {name: np.zeros(len(gain_L)) for name, gain_L in exact.items()}
    flat, names = np.concatenate(list(start.values())), list(start)

    def split(flat: np.ndarray) -> dict[str, np.ndarray]:
        ends = np.cumsum([len(of) for of in start.values()])[:-1]
        return dict(zip(names, np.split(flat, ends), strict=True))

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = cross_entropy(study, {k: jnp.asarray(v, float) for k, v in split(flat).items()}, log_q_BPV)
        return float(value), np.concatenate([np.asarray(gradient[name], np.float64) for name in names])

    bounds = [(np.log(LEAST), np.log(MOST))] * len(flat)
    best = minimize(loss, flat, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 100})
    return {name: np.exp(of) for name, of in split(best.x).items()}


@jax.jit
@partial(jax.value_and_grad, argnums=1)
def cross_entropy(study: Study, log_gains: dict[str, Array], log_q_BPV: Array) -> Array:
    """Mean −Σ_v q_v log p_λ(v), without values that no pair stores, to which p gives nothing."""
    tunnel, (tables, batch) = study.tunnel, sequences(study, TRIALS)
    crossed, at = in_conflict(study, batch), jnp.arange(study.horizon)
    assert crossed is not None
    log_p_BPV = tunnel.log_weighed(tables, crossed, at, {name: jnp.exp(of) for name, of in log_gains.items()})
    possible = log_p_BPV > -jnp.inf
    terms_BPV = jnp.where(possible, jnp.exp(log_q_BPV) * jnp.where(possible, log_p_BPV, 0.0), 0.0)
    return -jnp.mean(jnp.sum(terms_BPV[:, 1:], axis=-1))


@partial(jax.jit, static_argnames=("count", "model"))
def trials(study: Study, params: Any, count: int, model: Build) -> tuple[Array, ...]:
    """Log-predictives [B, P, V] (nats) of the model and the exact reasoner, in conflict and not; and whether the
    likeliest pairs of the two channels' cues are the same, bool[B, P].
    """
    tunnel, (tables, batch) = study.tunnel, sequences(study, count)
    crossed, at, tokens = in_conflict(study, batch), jnp.arange(study.horizon), tunnel.scored(study.horizon)
    module, channels = model(study, params), tunnel.channels
    assert crossed is not None and channels is not None

    def both(batch: Batch) -> tuple[Array, Array]:
        return jax.nn.log_softmax(module(batch.inputs, tokens)), tunnel.log_predictive(tables, batch, at)

    exact = {name: gain_L for name, (_, gain_L) in channels.items()}
    alone = [
        tunnel.log_weighed(tables, crossed, at, {k: g if k == name else jnp.zeros_like(g) for k, g in exact.items()})
        for name in exact
    ]
    agree_BP = jnp.argmax(alone[0], axis=-1) == jnp.argmax(alone[1], axis=-1)
    return *both(crossed), *both(batch), agree_BP


def channels_of(study: Study) -> dict[str, tuple[Array, Array]]:
    channels = study.tunnel.channels
    assert channels is not None  # `refusal` asks
    return channels


def in_conflict(study: Study, batch: Batch) -> Batch:
    crossed = study.tunnel.crossed(batch)
    assert crossed is not None  # there are channels
    return crossed

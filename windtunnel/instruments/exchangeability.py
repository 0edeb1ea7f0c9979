"""Exchangeability: does a prediction stay what it is when the same evidence comes in another order?

    order:  E_r KL(q_r ‖ q̄), q_r the predictive after the same evidence in order r, q̄ their mean;
    drift:  KL(q_t ‖ Σ_x q_t(x) q_{t+1}(· | x)), where any order is as likely as any other: there predictives are a
            martingale, and what is expected to be believed next is what is believed now (de Finetti).

Both are 0 bits for exact inference, whose own are stated beside the model's (rounding). They are 0 as well for a model
that ignores the evidence, or is wrong in the same way in every order, so KL to the exact predictive stands beside them.
Null: an untrained model.

In shapes, R is the orders.
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel.config import Study
from windtunnel.information import drift_bits, kl_bits, spread_bits
from windtunnel.instruments.base import EXAMPLES, Build, Json, Subject, fresh
from windtunnel.train import examples

ORDERS = 8
FAR = 4  # horizons


def refusal(subject: Subject) -> str | None:
    tunnel, length = subject.study.tunnel, subject.study.horizon
    inputs = jax.ShapeDtypeStruct((1, tunnel.tokens(length)), jnp.int32)
    if tunnel.features or jax.eval_shape(tunnel.reordered, jax.random.key(0), inputs) is None:
        return f"the order of {tunnel.name} matters, or no other order is known to be as likely"
    return None


def measure(subject: Subject) -> Json:
    """By `places`, `in_range` (at the end of the horizon) and `past` (at 4 horizons): `order_bits`, `drift_bits` (None
    where it is not defined) and `kl_bits`, of the model, of the `exact` reasoner and of an `untrained` model.
    """
    study = subject.study
    lengths = {"in_range": study.horizon, "past": round(study.horizon * min(FAR, study.evaluate.reach))}
    if study.tunnel.capacity is not None:
        lengths = {"in_range": min(study.horizon, study.tunnel.capacity)}
    null = fresh(study) if subject.null is None else subject.null
    places = {}
    for place, observations in lengths.items():
        own = predicted(study, subject.params, EXAMPLES, subject.model, observations)
        other = predicted(study, null, EXAMPLES, subject.model, observations)
        exact = Said(own.log_p_RBV, own.log_p_RBV, own.log_p_now_BV, own.log_p_now_BV, own.log_p_then_VBV,
                     own.log_p_then_VBV)  # fmt: skip
        told = {"model": own, "exact": exact, "untrained": other}
        places[place] = {"observations": observations, **{name: of_one(said) for name, said in told.items()}}
    return {"orders": ORDERS, "places": places}


def lines(record: Json) -> list[str]:
    return [
        f"{'at the horizon' if place == 'in_range' else 'past it'} ({of['observations']} observations): over "
        f"{record['orders']} orders of the same evidence predictions differ by {of['model']['order_bits']:.2g} bits "
        f"(exact {of['exact']['order_bits']:.1g}, untrained {of['untrained']['order_bits']:.2g})"
        + ("" if of["model"]["drift_bits"] is None else f"; drift {of['model']['drift_bits']:.2g} bits (exact "
           f"{of['exact']['drift_bits']:.1g}, untrained {of['untrained']['drift_bits']:.2g})")
        + f"; KL {of['model']['kl_bits']:.2g} bits"
        for place, of in record["places"].items()
    ]  # fmt: skip


def headline(record: Json) -> dict[str, float | None]:
    return {
        f"{name}{'' if place == 'in_range' else '_past'}": of["model"][name]
        for place, of in record["places"].items()
        for name in ("order_bits", "drift_bits", "kl_bits")
    }


class Said(NamedTuple):
    """Log-predictives (nats) of a model, q, and exact, p: at the last observation in R orders; before it; and at it,
    for every outcome that the one before could have had.
    """

    log_q_RBV: Any
    log_p_RBV: Any
    log_q_now_BV: Any
    log_p_now_BV: Any
    log_q_then_VBV: Any
    log_p_then_VBV: Any


def of_one(said: Said) -> Json:
    log_q_RBV, log_p_RBV = np.asarray(said.log_q_RBV), np.asarray(said.log_p_RBV)
    drift = None
    if said.log_q_then_VBV is not None:
        drift = float(drift_bits(np.asarray(said.log_q_now_BV), np.asarray(said.log_q_then_VBV)).mean())
    order = float(spread_bits(log_q_RBV).mean())
    return {"order_bits": order, "drift_bits": drift, "kl_bits": float(kl_bits(log_p_RBV, log_q_RBV).mean())}


@partial(jax.jit, static_argnames=("count", "model", "observations"))
def predicted(study: Study, params: Any, count: int, model: Build, observations: int) -> Said:
    tunnel, problem, module = study.tunnel, replace(study.problem, horizon=observations), model(study, params)
    tables = tunnel.prepare(observations)
    batch = examples(problem, tables, study.problem.key, jnp.arange(count))
    tokens = tunnel.scored(observations)

    def both(inputs_BT: Array, at: int) -> tuple[Array, Array]:
        log_q_BV = jax.nn.log_softmax(module(inputs_BT, tokens[at : at + 1])[:, 0])
        return log_q_BV, tunnel.log_predictive(tables, batch._replace(inputs=inputs_BT), jnp.asarray([at]))[:, 0]

    def in_order(number: Array) -> tuple[Array, Array]:
        other_BT = tunnel.reordered(jax.random.fold_in(jax.random.key(0), number), batch.inputs)
        assert other_BT is not None  # `refusal` asks
        return both(other_BT, observations - 1)

    log_q_RBV, log_p_RBV = jax.lax.map(in_order, jnp.arange(ORDERS))
    if not tunnel.exchangeable:
        return Said(log_q_RBV, log_p_RBV, None, None, None, None)
    then = jax.lax.map(
        lambda token: both(batch.inputs.at[:, tokens[-1]].set(token), observations - 1),
        jnp.asarray(tunnel.outcome_tokens),
    )
    return Said(log_q_RBV, log_p_RBV, *both(batch.inputs, observations - 2), *then)

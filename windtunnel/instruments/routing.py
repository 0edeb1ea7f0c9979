"""Routing: is the gate the exact posterior over domains, and do predictions rest on it?

A gate is a router's over groups of heads, or that of experts (`gate`, log-weights [B, P, G]). Which part stands for
which domain is not said to a model that is not taught. So parts are named by the assignment to domains, every domain
having one at least, whose KL in range is smallest; the untrained null has the same choice.

In shapes, G is the parts that a gate weighs, K the domains.
"""

import itertools
import math
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel.compare import mean_and_error
from windtunnel.config import Study
from windtunnel.information import entropy_bits, kl_bits
from windtunnel.instruments.base import EXAMPLES, Build, Json, Subject, fresh
from windtunnel.models.tap import Collect, Tap
from windtunnel.problem import Problem
from windtunnel.tunnels import Batch, Tunnel

FAR = 16.0  # horizons
SURE = -23.0  # nats: what a gate, or the posterior, is floored at when it replaces a gate (1e-10)


def refusal(subject: Subject) -> str | None:
    study = subject.study
    if not study.model.gates:
        return f"model {study.model.name} has no gate"
    if type(study.tunnel).log_domains is Tunnel.log_domains:
        return f"{study.tunnel.name} has no domains"
    if study.model.gates < study.tunnel.domain_count:
        return f"a gate over {study.model.gates} parts cannot tell {study.tunnel.domain_count} domains"
    return None


def measure(subject: Subject) -> Json:
    """`gate`: KL (bits) of the exact posterior over domains to the gate, beside nulls: `uniform`, `time_only` (the mean
    posterior at each position), `shuffled` (the gate of another sequence) and the `untrained` model's gate; `replaced`:
    ΔKL of predictions (bits, with its standard error) when the gate is replaced by the `exact` posterior, or is
    `uniform`, `shuffled` or `flipped` (each domain's weight is another's). Each `in_range` and `past` the horizon, to
    16 horizons at most.
    """
    study, problem = subject.study, near(subject.study)
    log_gate_BPG, log_domains_BPK, log_p_BPV, weight_BP, log_q_BPV = map(
        np.asarray, gates(study, subject.params, EXAMPLES, subject.model)
    )
    inside = weight_BP * problem.bins.inside_P
    places = {"in_range": inside, "past": weight_BP * problem.bins.past_P}
    domains = log_domains_BPK.shape[-1]

    def apart(log_gate_BPK: np.ndarray) -> Json:
        gap_BP = kl_bits(log_domains_BPK, np.maximum(log_gate_BPK, 10 * SURE))
        return {place: mean_and_error(gap_BP, weight)[0] for place, weight in places.items()}

    def named(log_gate_BPG: np.ndarray) -> tuple[tuple[int, ...], Json]:
        every = itertools.product(range(domains), repeat=log_gate_BPG.shape[-1])
        each = [(of, apart(by_domain(log_gate_BPG, of))) for of in every if len(set(of)) == domains]
        return min(each, key=lambda pair: pair[1]["in_range"])

    of, gap = named(log_gate_BPG)
    log_named_BPK = by_domain(log_gate_BPG, of)
    log_untrained_BPG = np.asarray(gates(study, null(subject), EXAMPLES, subject.model)[0])
    log_time_1PK = np.log(np.maximum(np.exp(log_domains_BPK.astype(np.float64)).mean(0, keepdims=True), 1e-30))
    uniform_BPK = np.full_like(log_domains_BPK, -math.log(domains))
    record: Json = {
        "parts": log_gate_BPG.shape[-1],
        "domain_of_part": list(of),
        "posterior_entropy_bits": {
            place: mean_and_error(entropy_bits(log_domains_BPK), weight)[0] for place, weight in places.items()
        },
        "gate": gap,
        "uniform": apart(uniform_BPK),
        "time_only": apart(np.broadcast_to(log_time_1PK, log_domains_BPK.shape)),
        "shuffled": apart(np.roll(log_named_BPK, 1, axis=0)),
        "untrained": named(log_untrained_BPG)[1],
    }
    before_BP = kl_bits(log_p_BPV, log_q_BPV)
    swapped = {
        "exact": within(log_domains_BPK, log_gate_BPG, of),
        "uniform": np.full_like(log_gate_BPG, -math.log(log_gate_BPG.shape[-1])),
        "shuffled": np.roll(log_gate_BPG, 1, axis=0),
        "flipped": within(np.roll(log_named_BPK, 1, axis=-1), log_gate_BPG, of),
    }
    record["kl_bits"] = {place: mean_and_error(before_BP, weight)[0] for place, weight in places.items()}
    record["replaced"] = {}
    for name, log_other_BPG in swapped.items():
        log_after_BPV = np.asarray(replaced(study, subject.params, EXAMPLES, subject.model, jnp.asarray(log_other_BPG)))
        change_BP = kl_bits(log_p_BPV, log_after_BPV) - before_BP
        pairs = {place: mean_and_error(change_BP, weight) for place, weight in places.items()}
        record["replaced"][name] = {place: {"bits": bits, "se": error} for place, (bits, error) in pairs.items()}
    return record


def lines(record: Json) -> list[str]:
    sentences = []
    for place, words in (("in_range", "in range"), ("past", "past the horizon")):
        if record["gate"][place] is None or math.isnan(record["gate"][place]):
            continue
        sentences.append(
            f"{words} the gate is {record['gate'][place]:.2g} bits from the posterior over domains (uniform "
            f"{record['uniform'][place]:.2g}, time only {record['time_only'][place]:.2g}, another sequence's "
            f"{record['shuffled'][place]:.2g}, untrained {record['untrained'][place]:.2g})"
        )
        effects = {name: effect[place] for name, effect in record["replaced"].items()}
        sentences.append(
            f"the gate replaced, {words}: ΔKL "
            + ", ".join(f"{of['bits']:+.2g} ± {of['se']:.1g} ({name})" for name, of in effects.items())
            + f"; KL {record['kl_bits'][place]:.2g} bits"
        )
    return sentences


def headline(record: Json) -> dict[str, float | None]:
    numbers = {"gate": record["gate"]["in_range"], "gate_past": record["gate"]["past"]}
    return {**numbers, **{f"kl_{name}": effect["in_range"]["bits"] for name, effect in record["replaced"].items()}}


def by_domain(log_gate_BPG: np.ndarray, of: tuple[int, ...]) -> np.ndarray:
    """[B, P, K]: the log-weight of the parts of each domain together."""
    parts = [log_gate_BPG[..., [g for g, domain in enumerate(of) if domain == k]] for k in range(max(of) + 1)]
    return np.stack([np.logaddexp.reduce(part.astype(np.float64), axis=-1) for part in parts], axis=-1)


def within(log_domains_BPK: np.ndarray, log_gate_BPG: np.ndarray, of: tuple[int, ...]) -> np.ndarray:
    """[B, P, G]: the weights of domains, each shared by its parts as the gate shares it."""
    log_own_BPK = np.maximum(by_domain(log_gate_BPG, of), 10 * SURE)
    floored_BPG = np.maximum(log_gate_BPG, 10 * SURE)
    log_BPG = np.maximum(log_domains_BPK, SURE)[..., list(of)] + floored_BPG - log_own_BPK[..., list(of)]
    return log_BPG.astype(log_gate_BPG.dtype)


def near(study: Study) -> Problem:
    """The study's problem, up to FAR horizons: each intervention is a pass over all sequences."""
    evaluate = replace(study.evaluate, reach=min(FAR, study.evaluate.reach))
    return replace(study.problem, evaluate=evaluate)


def null(subject: Subject) -> Any:
    """The parameters of an untrained model."""
    return fresh(subject.study) if subject.null is None else subject.null


@partial(jax.jit, static_argnames=("count", "model"))
def gates(study: Study, params: Any, count: int, model: Build) -> tuple[Array, Any, Array, Array, Array]:
    """The gate [B, P, G], the exact posterior over domains [B, P, K], the exact predictive [B, P, V], weights [B, P]
    and the model's predictive, on evaluation sequences at their scored tokens; nats.
    """
    problem, module = near(study), model(study, params)
    tables, at = study.tunnel.prepare(problem.length), jnp.asarray(problem.bins.at)

    def one(batch: Batch) -> Any:
        seen = Collect("gate")
        log_q_BPV = jax.nn.log_softmax(module(batch.inputs, problem.tokens, tap=seen))
        log_domains_BPK = study.tunnel.log_domains(tables, batch, at)
        log_p_BPV = study.tunnel.log_predictive(tables, batch, at)
        return seen["gate"][max(seen["gate"])], log_domains_BPK, log_p_BPV, batch.weight_BP[:, at], log_q_BPV

    return problem.each(one, jnp.arange(count))


@partial(jax.jit, static_argnames=("count", "model"))
def replaced(study: Study, params: Any, count: int, model: Build, log_gate_BPG: Array) -> Array:
    """[B, P, V]: the model's log-predictive (nats) with these gates in place of its own."""
    problem, module = near(study), model(study, params)

    def one(batch: Batch, log_gate_1PG: Array) -> Array:
        tap = Tap(lambda depth, kind, value: log_gate_1PG, "gate")
        return jax.nn.log_softmax(module(batch.inputs, problem.tokens, tap=tap))

    return problem.each(one, jnp.arange(count), log_gate_BPG)

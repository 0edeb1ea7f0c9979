"""Acting: what are predictions worth to an agent that acts on them?

The model is rolled out as a policy (`windtunnel/acting.py`) beside exact agents, all on the same worlds
(`windtunnel/instruments/agents.py`): what it loses against the Bayes-optimal policy and against exact Thompson
sampling, how far it is from the posterior on its own pulls and on those of somebody else, and what its state tells.

In shapes, B is the rollouts, T the pulls, K the arms.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel.compare import window
from windtunnel.config import Study
from windtunnel.decide import FAILS, HOLDS, PROVES, mean_and_error, state
from windtunnel.information import kl_bits
from windtunnel.instruments.agents import (
    LIKELIEST,
    MODEL,
    SHARE,
    Rolled,
    against_optimal,
    bounds,
    curves,
    difference,
    exact_regrets,
    lost,
    never_again,
    pair,
    rollouts,
)
from windtunnel.instruments.base import Build, Json, Subject, fresh, sequences
from windtunnel.instruments.geometry import held_out_r2
from windtunnel.losses import log_rewards
from windtunnel.models.tap import Collect

ROLLOUTS = 512


class Passive(NamedTuple):
    """On sequences that somebody else has chosen, what the model says and what exact inference does."""

    log_q_BTK: Any
    log_p_BTK: Any
    baselines: dict[str, Any]
    log_rewards: tuple[Any, Any]  # exact, the model's, [B, T, K, R]


def refusal(subject: Subject) -> str | None:
    tunnel = subject.study.tunnel
    return None if tunnel.actions else f"tunnel {tunnel.name} has no actions: there is nothing to act on"


def measure(subject: Subject) -> Json:
    study, params = subject.study, subject.params
    rolled = jax.tree.map(np.asarray, rollouts(study, params, ROLLOUTS, subject.model))
    passive = jax.tree.map(np.asarray, watched(study, params, ROLLOUTS, subject.model))
    losses = {name: lost(rolled, name) for name in rolled.played}
    known = exact_regrets(study)
    kl_BT = kl_bits(rolled.log_exact_BTK, rolled.played[MODEL].log_policy_BTK)
    gap = difference(rolled, losses)
    thompson = known.get("thompson", losses["thompson"])
    every = np.ones(kl_BT.shape)
    blind = {
        name: mean_and_error(kl_bits(passive.log_p_BTK, log_b), every)[0] for name, log_b in passive.baselines.items()
    }
    record: Json = {
        "arms": study.tunnel.actions,
        "pulls": study.horizon,
        "rollouts": ROLLOUTS,
        "kl_bits": pair(kl_BT),
        "kl_bits_passive": pair(kl_bits(passive.log_p_BTK, passive.log_q_BTK)),
        "kl_bits_deluded": pair(kl_bits(rolled.log_deluded_BTK, rolled.played[MODEL].log_policy_BTK)),
        "blind_bits": blind,
        "headroom_bits": min(blind.values()),
        "regret": {name: of for name, of in losses.items() if name not in known} | known,
        "gap": gap,
        "never_again": {name: never_again(of) for name, of in rolled.played.items()},
        "curves": curves(rolled, known, study.horizon) | {"kl_bits": kl_BT.mean(axis=0)},
        "state": read_out(subject, rolled),
        "rewards": rewards(study, passive),
    }
    if study.tunnel.actions == 2:
        record["optimal"] = against_optimal(rolled, study.horizon)
        record["bounds"] = bounds(rolled, kl_BT * math.log(2), study, thompson["mean"])
    samples, tolerance = kl_BT.size, float(np.asarray(study.evaluate.tolerance))
    record["verdict"] = verdict(record, thompson["mean"], samples, tolerance)
    return record


def verdict(record: Json, thompson: float, samples: int, tolerance: float) -> str:
    """`acts as Thompson sampling`: KL on policy holds τ, and |gap| + 2 SE ≤ 5 % of Thompson's regret; what fails is
    named, what is not resolved is open. `vacuous` where who misreads what is seen has less than ten tolerances to lose.
    """
    if record["headroom_bits"] < PROVES * tolerance:
        return "vacuous"
    gap, allowed = record["gap"], SHARE * thompson
    held = state(record["kl_bits"]["mean"], record["kl_bits"]["se"], samples, tolerance)
    near = HOLDS if abs(gap["mean"]) + 2 * gap["se"] <= allowed else 0
    near = FAILS if not abs(gap["mean"]) - 2 * gap["se"] <= allowed else near
    states = {"KL on policy": held, "regret": near}
    if set(states.values()) == {HOLDS}:
        return "acts as Thompson sampling"
    failing = [name for name, of in states.items() if of == FAILS]
    return f"does not: {', '.join(failing)}" if failing else "open"


def lines(record: Json) -> list[str]:
    regrets, gap, again = record["regret"], record["gap"], record["never_again"]
    exact = ", ".join(f"{name} {of['mean']:.3f}" for name, of in regrets.items() if not name.startswith(MODEL))
    own, likeliest = (f"{regrets[name]['mean']:.3f} ± {regrets[name]['se']:.3f}" for name in (MODEL, LIKELIEST))
    shares = ", ".join(f"{name} {again[name]['half']:.3f}" for name in (MODEL, "thompson", "greedy"))
    sentences = [
        f"{record['verdict']}: KL on policy {record['kl_bits']['mean']:.2g} bits, passive "
        f"{record['kl_bits_passive']['mean']:.2g}, headroom {record['headroom_bits']:.2g}",
        f"regret of {record['pulls']} pulls {own}, of its likeliest arm {likeliest}; exact: {exact}",
        f"gap to exact Thompson sampling {gap['mean']:+.2g} ± {gap['se']:.1g}; arms that are not played in the second "
        f"half: {shares}",
    ]
    if "bounds" in record:
        bounds, best = record["bounds"], record["optimal"]
        sentences.append(
            f"its KL guarantees a gap of at most {bounds['guaranteed']:.2g} (Pinsker {bounds['pinsker']:.2g}); it is "
            f"{best['kl_bits']['mean']:.2g} bits off the Bayes-optimal policy and loses {best['gap']['mean']:.2g} more"
        )
    counts = record["state"]["counts"]
    sentences.append(
        f"counts are read linearly from its state with R² {counts['trained']:.3f} (untrained "
        f"{counts['untrained']:.3f}, shuffled {counts['shuffled']:.3f})"
    )
    if (rewards := record["rewards"]) is not None:
        sentences.append(
            f"next rewards are {rewards['kl_bits']['mean']:.2g} bits off Beta–Bernoulli (chance "
            f"{rewards['chance_bits']:.2g})"
        )
    return sentences


def headline(record: Json) -> dict[str, float | None]:
    numbers = {
        "kl_bits_on_policy": record["kl_bits"]["mean"],
        "kl_bits_passive": record["kl_bits_passive"]["mean"],
        "regret": record["regret"][MODEL]["mean"],
        "gap": record["gap"]["mean"],
        "counts_r2": record["state"]["counts"]["trained"],
    }
    return numbers | ({"guaranteed": record["bounds"]["guaranteed"]} if "bounds" in record else {})


@partial(jax.jit, static_argnames=("count", "model"))
def watched(study: Study, params: Any, count: int, model: Build) -> Passive:
    tunnel: Any = study.tunnel
    tables, batch = sequences(study, count)
    seen, at = Collect("residual"), jnp.arange(study.horizon)
    log_q_BTK = jax.nn.log_softmax(model(study, params)(batch.inputs, np.arange(study.horizon), tap=seen))
    gaps = tunnel.baselines(tables, batch, at, study.horizon)
    whole = {name: log_b for name, log_b in gaps.items() if math.isinf(window(name, study.horizon))}
    last_BTD = seen["residual"][max(seen["residual"])]
    both = tunnel.log_rewards(tables, batch, at), log_rewards(last_BTD, tunnel.arms)
    return Passive(log_q_BTK, tunnel.log_predictive(tables, batch, at), whole, both)


@partial(jax.jit, static_argnames="model")
def states(study: Study, params: Any, inputs_BT: Array, model: Build) -> Array:
    """[B, T, D]: the residual stream after the last layer."""
    seen = Collect("residual")
    model(study, params)(inputs_BT, np.arange(study.horizon), tap=seen)
    return seen["residual"][max(seen["residual"])]


def read_out(subject: Subject, rolled: Rolled) -> Json:
    """R² of linear read-outs from the last residual state, on held-out rollouts of exact Thompson sampling and without
    the means of positions: of the counts, of the arms' posterior means, of P(best); of a random initialisation, and of
    other rollouts (shuffled).
    """
    study, inputs_BT = subject.study, rolled.played["thompson"].inputs_BT
    null = fresh(study) if subject.null is None else subject.null
    trained_BTD, null_BTD = (
        np.asarray(states(study, params, inputs_BT, subject.model), np.float64) for params in (subject.params, null)
    )
    pulls = rolled.pulls["thompson"].astype(np.float64)
    targets: dict[str, Any] = {
        "counts": pulls.reshape(*pulls.shape[:2], -1),
        "means": (pulls[..., 1] + 1) / (pulls.sum(axis=-1) + 2),
        "belief": np.exp(rolled.played["thompson"].log_policy_BTK.astype(np.float64)),
    }
    later = np.ones(inputs_BT.shape, bool)
    later[:, 0] = False  # before the first pull all are alike
    return {
        name: {
            "trained": held_out_r2(trained_BTD, of, later),
            "untrained": held_out_r2(null_BTD, of, later),
            "shuffled": held_out_r2(trained_BTD, np.roll(of, 1, axis=0), later),
        }
        for name, of in targets.items()
    }


def rewards(study: Study, passive: Passive) -> Json | None:
    """How far the second target is from Beta–Bernoulli, on passive sequences; None where it is not trained on."""
    if "reward" not in {term.name for term in study.train.terms.values()}:
        return None
    exact, own = passive.log_rewards
    chance = np.full(exact.shape, -math.log(2))
    return {
        "kl_bits": pair(kl_bits(exact, own).mean(axis=-1)),
        "chance_bits": float(kl_bits(exact, chance).mean()),
    }

"""Agents on the same worlds: a model as a policy, exact inference beside it, and what each loses.

On two arms values are known for all counts, so that what a policy loses is a sum without the noise of choices and
rewards. On more arms it is a mean over rollouts, and a difference of two that are paired.

In shapes, B is the rollouts, T the pulls, K the arms, R the outcomes of a pull.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from windtunnel import acting, guarantee, regret
from windtunnel.acting import Played
from windtunnel.config import Study
from windtunnel.decide import mean_and_error
from windtunnel.instruments.base import Build, Json
from windtunnel.train import each_key, prepare

ROUND = 128  # rollouts at once
SHARE = 0.05  # of exact Thompson sampling's regret, which an agent may lose or gain
WORLDS = 1  # the stream of the worlds, beside that of the evaluation sequences
MODEL, LIKELIEST = "model", "model's likeliest"


class Rolled(NamedTuple):
    """Rollouts by name, and what exact inference says of the model's own states and of Thompson's."""

    played: dict[str, Played]
    pulls: dict[str, Any]  # int[B, T, K, R] before each pull
    log_exact_BTK: Any  # after the model's own pulls, which are interventions
    log_deluded_BTK: Any  # the same, read as somebody else's


@partial(jax.jit, static_argnames=("count", "model"))
def rollouts(study: Study, params: Any, count: int, model: Build) -> Rolled:
    """The model and exact agents on the same worlds, which are the same for all studies of a problem's arms."""
    tunnel: Any = study.tunnel
    tables, module = prepare(study), model(study, params)
    own, exact = acting.of_model(module), acting.thompson(tunnel, tables)
    policies = {
        MODEL: own,
        LIKELIEST: acting.likeliest(own),
        "thompson": exact,
        "likeliest": acting.likeliest(exact),
        "greedy": acting.greedy,
        "uniform": acting.random,
    }
    if tables.log_choices_NN is not None:
        policies["deluded"] = acting.thompson(tunnel, tables, deluded=True)

    def some(numbers: Array) -> Rolled:
        keys = each_key(jax.random.fold_in(study.problem.key, WORLDS), numbers)
        drawn = acting.worlds(tunnel.arms, keys, study.horizon)
        played = {name: acting.play(tunnel, policy, drawn) for name, policy in policies.items()}
        at = jnp.arange(study.horizon)
        pulls = {name: tunnel.pulls(of.inputs_BT, at, study.horizon) for name, of in played.items()}
        exactly, deluded = (tunnel.log_best(tables, pulls[MODEL], informed) for informed in (False, True))
        return Rolled(played, pulls, exactly, deluded)

    parts = lax.map(some, jnp.arange(count).reshape(-1, min(ROUND, count)))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), parts)


def pair(of_BT: np.ndarray) -> Json:
    """The mean of [B, T] and its standard error over rollouts."""
    mean, error = mean_and_error(of_BT, np.ones(of_BT.shape))
    return {"mean": mean, "se": error}


def total(of_BT: np.ndarray) -> Json:
    """The same for the sum over pulls."""
    return {name: of_BT.shape[1] * value for name, value in pair(of_BT).items()}


def first_arm(played: Played) -> np.ndarray:
    """[B, T]: the probability of taking the first arm."""
    return np.exp(played.log_policy_BTK[..., 0].astype(np.float64))


def advantages(rolled: Rolled, name: str, horizon: int) -> np.ndarray:
    """[B, T, K]: how much less than the best arm each is worth to the Bayes-optimal policy, at the counts reached."""
    value_NK = regret.flat(regret.action_values(horizon))
    value_BTK = value_NK[acting.where(rolled.pulls[name].astype(int))]
    return value_BTK.max(axis=-1, keepdims=True) - value_BTK


def lost(rolled: Rolled, name: str) -> Json:
    """The regret of a policy. On two arms, what the optimal policy loses and what each choice loses against it."""
    played = rolled.played[name]
    if played.theta_BK.shape[1] != 2:
        return total(np.asarray(played.regret_BT, np.float64))
    horizon = played.arm_BT.shape[1]
    less = total((np.exp(played.log_policy_BTK) * advantages(rolled, name, horizon)).sum(axis=-1))
    return {"mean": less["mean"] + float(regret.regrets(horizon)["optimal"].sum()), "se": less["se"]}


def exact_regrets(study: Study) -> dict[str, Json]:
    """Of the agents whose regrets are sums over all counts."""
    arms, horizon = study.tunnel.actions, study.horizon
    chance = {"uniform": {"mean": horizon * (arms / (arms + 1) - 0.5), "se": 0.0}}
    if arms != 2:
        return chance
    return {name: {"mean": float(of_t.sum()), "se": 0.0} for name, of_t in regret.regrets(horizon).items()}


def difference(rolled: Rolled, losses: dict[str, Json]) -> Json:
    """What the model loses more than exact Thompson sampling: by (1) of `guarantee`, or paired."""
    own, exact = rolled.played[MODEL], rolled.played["thompson"]
    if own.theta_BK.shape[1] != 2:
        return total(np.asarray(own.regret_BT - exact.regret_BT, np.float64))
    at_BT = acting.where(rolled.pulls[MODEL].astype(int))
    return total(guarantee.gaps(own.arm_BT.shape[1], at_BT, first_arm(own)))


def against_optimal(rolled: Rolled, horizon: int) -> Json:
    """The KL (bits) of the nearest Bayes-optimal policy from the model's, −log₂ of what it gives to arms that are
    optimal, and what it loses more.
    """
    own = rolled.played[MODEL]
    less_BTK = advantages(rolled, MODEL, horizon)
    right_BT = (np.exp(own.log_policy_BTK.astype(np.float64)) * (less_BTK < regret.TIE)).sum(axis=-1)
    gap = total((np.exp(own.log_policy_BTK) * less_BTK).sum(axis=-1))
    return {"kl_bits": pair(-np.log2(np.maximum(right_BT, 1e-300))), "gap": gap}


def bounds(rolled: Rolled, kl_BT: np.ndarray, study: Study, thompson: float) -> Json:
    """Every bound of `guarantee` (rewards), the KL (bits a pull) that guarantees a gap of 5 %, and the coverage."""
    horizon, own = study.horizon, rolled.played[MODEL]
    at_BT = acting.where(rolled.pulls[MODEL].astype(int))
    behaviour = regret.urn(float(np.asarray(study.tunnel.evenness)))  # type: ignore[attr-defined]
    return {
        **guarantee.from_kl(horizon, kl_BT.mean(axis=0)),
        **guarantee.from_visits(horizon, at_BT, kl_BT, first_arm(own)),
        "enough_bits": guarantee.enough(horizon, SHARE * thompson) / math.log(2),
        "coverage": float(guarantee.coverage(horizon, behaviour).max()),
    }


def never_again(played: Played) -> Json:
    """The share of arms that are not played from pull t on [T], and of best arms; `half`: from the middle on."""
    pulls, arms = played.arm_BT.shape[1], played.theta_BK.shape[1]
    taken_BTK = played.arm_BT[..., None] == np.arange(arms)
    left_BTK = ~np.logical_or.accumulate(taken_BTK[:, ::-1], axis=1)[:, ::-1]
    best_B = played.theta_BK.argmax(axis=1)
    best_BT = left_BTK[np.arange(len(best_B)), :, best_B]
    middle = pulls // 2
    return {"share": left_BTK.mean(axis=(0, 2)), "half": left_BTK[:, middle].mean(), "best": best_BT[:, middle].mean()}


def curves(rolled: Rolled, known: dict[str, Json], horizon: int) -> Json:
    """Regret up to each pull, [T] by name: exact where it is known, and else from rollouts; on two arms what these say
    of Thompson sampling corrects what they say of the others.
    """
    sampled = {name: np.asarray(of.regret_BT).mean(axis=0).cumsum() for name, of in rolled.played.items()}
    if rolled.played[MODEL].theta_BK.shape[1] != 2:
        return {"regret": sampled}
    exact = {name: of_t.cumsum() for name, of_t in regret.regrets(horizon).items()}
    off = exact["thompson"] - sampled["thompson"]
    return {"regret": {**{name: of + off for name, of in sampled.items() if name not in known}, **exact}}

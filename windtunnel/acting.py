"""Acting on a posterior: policies that pull the arms of a bandit themselves, rolled out on the same worlds.

A policy takes arms with probabilities that it gives after each pull. An agent that takes an arm as often as it says
that arm is the best samples from its posterior (Thompson 1933); one that takes the likeliest arm exploits it. All
policies meet the same worlds: the same θ, the same reward at the j-th pull of an arm, the same uniform number behind
the choice before pull t. So the difference between two policies is known far better than what either loses (common
random numbers).

In the shapes of this file, K is the arms, R the two rewards, and T the pulls of a rollout, before each of which a model
sees as many tokens: a start and the pulls so far.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from windtunnel import regret
from windtunnel.tunnels import Batch, Tables
from windtunnel.tunnels.base import uniform

TIE = 1e-5  # log-probabilities that differ by less are the same, in float32
MOST = 40  # pulls, where an agent is trained by reward: the values of all counts are part of the program

# From the sequences so far [B, T] (what is still to come is start tokens), the number of pulls t and those of each arm
# int[B, K, R], the log-probabilities of taking each arm [B, K].
Policy = Callable[[Array, Array, Array], Array]


class Worlds(NamedTuple):
    """B bandits: the arms' probabilities, and the uniform numbers behind the rewards of an arm's j-th pull and behind
    the choice before pull t.
    """

    theta_BK: Array
    coin_BTK: Array
    choice_BT: Array


class Played(NamedTuple):
    """B rollouts of T pulls: what the agent saw before each, what it would do and did, and what it got."""

    inputs_BT: Array
    log_policy_BTK: Array
    arm_BT: Array
    reward_BT: Array
    theta_BK: Array

    @property
    def regret_BT(self) -> Array:
        """max θ − Σ_k π(k) θ_k: the regret of each pull, without the noise of the choice or the reward."""
        mean_BT = jnp.sum(jnp.exp(self.log_policy_BTK) * self.theta_BK[:, None], axis=-1)
        return jnp.max(self.theta_BK, axis=-1, keepdims=True) - mean_BT


class Acted(NamedTuple):
    """What a policy gradient needs of rollouts: the arms taken, and what came of each choice (see `experience`)."""

    arm_BT: Array
    return_BT: Array
    regret_BT: Array


def worlds(arms: int, keys_B: Array, pulls: int) -> Worlds:
    """A world for each key, θ_k ~ U(0, 1) as in `tunnels.Bandit`."""
    drawn_BN = jax.vmap(lambda key: uniform(key, (arms + pulls * (arms + 1),)))(keys_B)
    theta_BK, coin_BN, choice_BT = jnp.split(drawn_BN, [arms, arms + pulls * arms], axis=1)
    return Worlds(theta_BK, coin_BN.reshape(-1, pulls, arms), choice_BT)


def play(tunnel: Any, policy: Policy, drawn: Worlds) -> Played:
    """Pull T arms in every world, one after another."""
    size, pulls = drawn.choice_BT.shape

    def pull(carry: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
        inputs_BT, pulls_BKR = carry
        log_policy_BK = policy(inputs_BT, t, pulls_BKR)
        below_BK = jnp.cumsum(jnp.exp(log_policy_BK), axis=1)[:, :-1]
        arm_B = jnp.sum(drawn.choice_BT[:, t, None] >= below_BK, axis=1, dtype=jnp.int32)
        which_BK = jax.nn.one_hot(arm_B, tunnel.arms, dtype=jnp.int32)
        before_B = jnp.sum(jnp.sum(pulls_BKR, axis=-1) * which_BK, axis=1)
        coin_B = drawn.coin_BTK[jnp.arange(size), before_B, arm_B]
        reward_B = (coin_B < jnp.sum(drawn.theta_BK * which_BK, axis=1)).astype(jnp.int32)
        inputs_BT = inputs_BT.at[:, t + 1].set(2 * arm_B + reward_B, mode="drop")
        pulls_BKR = pulls_BKR + which_BK[..., None] * jax.nn.one_hot(reward_B, 2, dtype=jnp.int32)[:, None]
        return (inputs_BT, pulls_BKR), (log_policy_BK, arm_B, reward_B)

    nothing = jnp.full((size, pulls), tunnel.start, jnp.int32), jnp.zeros((size, tunnel.arms, 2), jnp.int32)
    (inputs_BT, _), of_t = lax.scan(pull, nothing, jnp.arange(pulls))
    log_policy_BTK, arm_BT, reward_BT = (jnp.swapaxes(of, 0, 1) for of in of_t)
    return Played(inputs_BT, log_policy_BTK, arm_BT, reward_BT, drawn.theta_BK)


def of_model(module: Any) -> Policy:
    """Thompson sampling from what a model says: it is asked anew, of the whole sequence, before each pull."""
    return lambda inputs_BT, t, pulls_BKR: jax.nn.log_softmax(module(inputs_BT, t[None])[:, 0])


def thompson(tunnel: Any, tables: Tables, deluded: bool = False) -> Policy:
    """Thompson sampling from the exact posterior. Its own choices are interventions, and say nothing of θ; one that is
    `deluded` reads them as those of somebody who knows, as an `informed` behaviour's are (Ortega et al. 2021).
    """
    return lambda inputs_BT, t, pulls_BKR: tunnel.log_best(tables, pulls_BKR[:, None], informed=deluded)[:, 0]


def greedy(inputs_BT: Array, t: Array, pulls_BKR: Array) -> Array:
    """The arm with the largest posterior mean, (s + 1) / (n + 2); any, where several have it."""
    return largest((pulls_BKR[..., 1] + 1) / (jnp.sum(pulls_BKR, axis=-1) + 2))


def random(inputs_BT: Array, t: Array, pulls_BKR: Array) -> Array:
    arms = pulls_BKR.shape[1]
    return jnp.full((len(pulls_BKR), arms), -jnp.log(float(arms)))


def likeliest(policy: Policy) -> Policy:
    """The arm that a policy takes most often."""
    return lambda inputs_BT, t, pulls_BKR: largest(policy(inputs_BT, t, pulls_BKR))


def largest(score_BK: Array) -> Array:
    """Log-probabilities of taking the arm with the largest score; any, where several have it."""
    best_BK = score_BK >= jnp.max(score_BK, axis=-1, keepdims=True) - TIE
    return jnp.where(best_BK, -jnp.log(jnp.sum(best_BK, axis=-1, keepdims=True)), -jnp.inf)


def experience(train: Any, tunnel: Any, module: Any, keys_B: Array, pulls: int) -> tuple[Batch, Acted]:
    """Rollouts of a model by Thompson sampling, as a batch, with the returns of what it did on two arms. With V the
    value of the Bayes-optimal policy and Q that of one choice before it,

        return_t = Σ_{u≥t} r_u − V_t(counts)                        (`sample` supervision)
        return_t = Σ_{u≥t} [Q_u(counts, arm_u) − V_u(counts)]       (`posterior` supervision)

    have the same mean, given the counts and the arm; the second lacks the noise of rewards (Rao-Blackwell).
    """
    played = play(tunnel, of_model(module), worlds(tunnel.arms, keys_B, pulls))
    batch = Batch(
        played.inputs_BT,
        jnp.broadcast_to(jnp.argmax(played.theta_BK, axis=1)[:, None], played.arm_BT.shape).astype(jnp.int32),
        jnp.ones(played.arm_BT.shape),
    )
    value_NK = jnp.asarray(regret.flat(regret.action_values(pulls)), float)
    pulls_BTKR = tunnel.pulls(played.inputs_BT, jnp.arange(pulls), pulls)
    value_BTK = value_NK[where(pulls_BTKR)]
    best_BT = jnp.max(value_BTK, axis=-1)
    if train.supervision == "posterior":
        chosen_BT = jnp.take_along_axis(value_BTK, played.arm_BT[..., None], axis=-1)[..., 0]
        return_BT = to_come(chosen_BT - best_BT)
    else:
        return_BT = to_come(played.reward_BT.astype(float)) - best_BT
    return batch, Acted(played.arm_BT, return_BT, played.regret_BT)


def to_come(of_BT: Array) -> Array:
    """Σ_{u≥t}"""
    return jnp.cumsum(of_BT[:, ::-1], axis=1)[:, ::-1]


def where(pulls_BTKR: Any) -> Any:
    """[B, T]: where the counts of two arms stand in `regret.flat`. numpy or JAX."""
    n_BT, m_BT = (pulls_BTKR[:, :, arm].sum(axis=-1) for arm in (0, 1))
    return regret.index(n_BT + m_BT, n_BT, pulls_BTKR[:, :, 0, 1], pulls_BTKR[:, :, 1, 1])

"""Rollouts against exact regrets, the policy gradient against differences of exact regrets, and who must be refused."""

from functools import cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.composed import study
from windtunnel import acting, losses, regret, train
from windtunnel.errors import BadInput
from windtunnel.models import parameters
from windtunnel.spec import arrays
from windtunnel.tunnels import Bandit

PULLS, WORLDS = 8, 2000
POLICIES = ("thompson", "likeliest", "greedy", "uniform")
TINY = (
    "tunnel=bandit model=transformer model.width=8 model.hidden=8 train.steps=4 train.batch=4 train.horizon=6".split()
)


@jax.jit
def rolled(arms_seed):
    tunnel = Bandit(arms=2)
    exact = acting.thompson(tunnel, tunnel.prepare(PULLS))
    policies = (exact, acting.likeliest(exact), acting.greedy, acting.random)
    drawn = acting.worlds(2, jax.random.split(jax.random.key(arms_seed), WORLDS), PULLS)
    every = {name: acting.play(tunnel, policy, drawn) for name, policy in zip(POLICIES, policies, strict=True)}
    at = jnp.arange(PULLS)
    return {name: (of, of.regret_BT, tunnel.pulls(of.inputs_BT, at, PULLS)) for name, of in every.items()}


@cache
def played(name):
    return jax.tree.map(np.asarray, rolled(0)[name])


@pytest.mark.parametrize("name", POLICIES)
def test_rollouts_lose_what_the_dynamic_programme_says(name):
    """Both as they are, and by what each choice is worth less than the best one."""
    rollouts, regret_BT, pulls = played(name)
    exact = regret.regrets(PULLS)
    value_BTK = regret.flat(regret.action_values(PULLS))[acting.where(pulls)]
    less_BTK = value_BTK.max(axis=-1, keepdims=True) - value_BTK
    losses_B = (np.exp(rollouts.log_policy_BTK) * less_BTK).sum((1, 2)) + exact["optimal"].sum()
    for of_B in (regret_BT.sum(axis=1), losses_B):
        assert abs(of_B.mean() - exact[name].sum()) < 5 * of_B.std() / np.sqrt(WORLDS)
    assert losses_B.std() < regret_BT.sum(axis=1).std()


def test_chance_loses_in_every_world_what_the_best_arm_is_above_the_mean():
    rollouts, regret_BT, _ = played("uniform")
    expected_B = PULLS * (rollouts.theta_BK.max(axis=1) - rollouts.theta_BK.mean(axis=1))
    assert regret_BT.sum(axis=1) == pytest.approx(expected_B, rel=1e-5)


def test_what_was_done_is_what_was_seen_later():
    rollouts, _, pulls = played("thompson")
    tokens_BT = 2 * rollouts.arm_BT + rollouts.reward_BT
    assert (rollouts.inputs_BT[:, 1:] == tokens_BT[:, :-1]).all() and (rollouts.inputs_BT[:, 0] == 4).all()
    assert (pulls.sum(axis=(2, 3)) == np.arange(PULLS)).all()
    taken = np.exp(np.take_along_axis(rollouts.log_policy_BTK, rollouts.arm_BT[..., None], axis=-1))
    expected = np.exp(2 * rollouts.log_policy_BTK.astype(float)).sum(axis=-1).mean()  # E[π(arm)] = Σ π²
    assert taken.mean() == pytest.approx(expected, abs=0.01)


@pytest.fixture(scope="module")
def acted():
    """A model's rollouts, twice: with other worlds from the fifth pull on; and what it says of all at once."""
    asked = arrays(study(*TINY))

    @jax.jit
    def both(state):
        module = train.model(asked, state.params)
        drawn = acting.worlds(2, jax.random.split(jax.random.key(1), 64), 6)
        other = drawn._replace(choice_BT=drawn.choice_BT.at[:, 4:].set(1 - drawn.choice_BT[:, 4:]))
        one, two = (acting.play(asked.tunnel, acting.of_model(module), of) for of in (drawn, other))
        return one, two, jax.nn.log_softmax(module(one.inputs_BT, np.arange(6)))

    return jax.tree.map(np.asarray, both(jax.jit(train.start)(asked)))


def test_choices_depend_on_the_past_alone(acted):
    one, two, log_q_BTK = acted
    assert (one.arm_BT[:, :4] == two.arm_BT[:, :4]).all() and (one.inputs_BT[:, :5] == two.inputs_BT[:, :5]).all()
    assert np.allclose(one.log_policy_BTK[:, :5], two.log_policy_BTK[:, :5], atol=1e-6)
    assert (one.arm_BT[:, 4] != two.arm_BT[:, 4]).any()
    assert one.log_policy_BTK == pytest.approx(log_q_BTK, abs=1e-5), "a policy is what the model says of the whole"


class Sharp(nnx.Module):
    """Takes arms by β times the difference of their posterior means: a policy of the counts, whose regret is exact."""

    def __init__(self, beta):
        self.beta = nnx.Param(beta)

    def __call__(self, inputs, tokens, **_):
        pulls = Bandit(arms=2).pulls(inputs, jnp.asarray(tokens), inputs.shape[1])
        return self.beta[...] * (pulls[..., 1] + 1) / (pulls.sum(axis=-1) + 2)


def exact_regret(beta):
    def policy(t):
        first, second = regret.counts(t).means
        return 1 / (1 + np.exp(-beta * (first - second)))

    return regret.regret(policy, PULLS).sum()


@pytest.mark.parametrize("supervision", ["posterior", "sample"])
def test_the_policy_gradient_is_that_of_the_exact_regret(supervision):
    """Sharper is better from here on, and the loss is the regret."""
    beta, asked = 4.0, SimpleNamespace(supervision=supervision)

    def loss(beta, seed):
        module, keys = Sharp(beta), jax.random.split(jax.random.key(seed), 500)
        batch, acted = acting.experience(asked, Bandit(arms=2), module, keys, PULLS)
        look = SimpleNamespace(log_q_BPV=jax.nn.log_softmax(module(batch.inputs, np.arange(PULLS))))
        total, weight = losses.lost(look, acted)
        return total / weight

    each = jax.jit(lambda seeds: jax.lax.map(lambda seed: jax.value_and_grad(loss)(beta, seed), seeds))
    values, gradients = map(np.asarray, each(jnp.arange(16)))
    slope = (exact_regret(beta + 1e-3) - exact_regret(beta - 1e-3)) / 2e-3
    assert slope < 0 and abs(gradients.mean() - slope) < 5 * gradients.std() / 4
    assert gradients.std() / 4 < (0.2 if supervision == "posterior" else 1.5) * abs(slope)
    assert abs(values.mean() - exact_regret(beta)) < 5 * values.std() / 4


@pytest.mark.slow
def test_an_agent_is_trained_on_its_own_rollouts_and_its_curve_is_its_regret():
    asked = arrays(study(*TINY, "train.objective=reward"))
    advance = jax.jit(lambda state: train.advance(asked, train.prepare(asked), state, 2))
    state = jax.jit(train.start)(asked)
    later, curves = advance(state)
    assert list(curves) == losses.curve_names(asked.train) == ["kl_bits", "regret"]
    two = np.asarray(curves["regret"])[:2]
    assert np.isfinite(two).all() and (two > 0).all() and (two < 6).all() and np.isnan(curves["regret"][2])
    moved = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()), parameters(train.model(asked, later.params)), state.params
    )
    assert max(jax.tree.leaves(moved)) > 0


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["train.objective=reward"], "train.objective=reward: recall has no actions (valid with tunnel=bandit)"),
        (["tunnel=bandit_five", "train.objective=reward"], "train.objective=reward: values are exact for two arms"),
        (["tunnel=bandit", "train.horizon=41", "train.objective=reward"], "give train.horizon=40 or less"),
        (["+term=reward"], "train.terms.reward: recall has no actions to be rewarded"),
        (
            ["tunnel=bandit_five", "+term=reward", "model=small", "model.width=4"],
            "model.width=4 has no place for 5 arms",
        ),
    ],
)
def test_what_cannot_act_is_refused(overrides, line):
    with pytest.raises(BadInput) as refusal:
        study(*overrides)
    assert line in str(refusal.value) and "\n" not in str(refusal.value)


def test_the_second_target_is_met_where_states_say_the_odds_of_the_mean():
    """log-odds of (s + 1)/(n + 2) in the first two numbers of the state; one that says ½ is as far as chance."""
    tunnel = Bandit(arms=2)

    @jax.jit
    def measured():
        tables = tunnel.prepare(PULLS)
        batch = tunnel.sample(jax.random.key(2), tables, 50, PULLS)
        at = jnp.arange(PULLS)
        pulls = tunnel.pulls(batch.inputs, at, PULLS)
        odds_BTK = jnp.log((pulls[..., 1] + 1) / (pulls[..., 0] + 1))
        log_p = tunnel.log_predictive(tables, batch, at)

        def kl(x_BTD):
            seen = {"residual": {0: jnp.zeros_like(x_BTD) - 1, 1: x_BTD}}
            look = losses.Look(tunnel, batch, log_p, log_p, seen, None, np.arange(PULLS), tables=tables)
            return losses.Reward().measure(look)

        return kl(odds_BTK), kl(0 * odds_BTK), pulls

    right, chance, pulls = measured()
    assert float(right.total) == pytest.approx(0, abs=1e-3) and float(right.weight) == 50 * PULLS
    p = (np.asarray(pulls)[..., 1] + 1) / (np.asarray(pulls).sum(axis=-1) + 2)
    expected = (p * np.log(2 * p) + (1 - p) * np.log(2 * (1 - p))).mean()
    assert float(chance.total / chance.weight) == pytest.approx(expected, rel=1e-4)

"""The belief recursion, against exact filters, and the model that is made of it."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from windtunnel.models import Belief, Shape
from windtunnel.models.belief import Filter, ahead, recursion
from windtunnel.models.tap import Closed, Collect, Tap

TOKENS, CHAINS, SLOTS = 5, 2, 3


@pytest.fixture(scope="module")
def problem():
    """Evidence [B, T, N, M], transitions of every token [B, T, N, M, M] with zeros among them, and a start [N, M]."""
    draw = np.random.default_rng(0)
    transition = draw.dirichlet(np.ones(SLOTS), size=(2, TOKENS, CHAINS, SLOTS))
    transition[:, :, 0, 1] = [0.0, 0.25, 0.75]
    return draw.normal(size=(2, TOKENS, CHAINS, SLOTS)), transition, draw.dirichlet(np.ones(SLOTS), size=CHAINS)


def by_paths(evidence_TM, transition_TMM, start_M):
    """[T, M]: the filter's posteriors, by the sum over all paths."""
    belief = np.zeros((TOKENS, SLOTS))
    for t in range(TOKENS):
        for path in itertools.product(range(SLOTS), repeat=t + 1):
            weight = start_M[path[0]] * math.prod(transition_TMM[s, path[s - 1], path[s]] for s in range(1, t + 1))
            belief[t, path[-1]] += weight * math.exp(sum(evidence_TM[s, path[s]] for s in range(t + 1)))
    return belief / belief.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("changes", [True, False], ids=["changing", "fixed"])
def test_the_recursion_is_the_sum_over_all_paths(problem, changes):
    evidence, transition, start = problem
    transition = transition if changes else np.broadcast_to(transition[:1, :1], transition.shape)
    with jax.enable_x64(True), np.errstate(divide="ignore"):
        log_transition = np.log(transition if changes else transition[0, 0])
        belief = recursion(*map(jnp.asarray, (evidence, log_transition, np.log(start))))
    for b, n in np.ndindex(2, CHAINS):
        expected = by_paths(evidence[b, :, n], transition[b, :, n], start[n])
        np.testing.assert_allclose(np.exp(belief[b, :, n]), expected, atol=1e-14)


def test_without_transitions_it_is_bayes_rule_for_experts():
    """T = I: the posterior over experts is proportional to prior × likelihood of all outcomes. A hypothesis that is
    e^200 times less likely comes back when the evidence does: no log-belief underflows.
    """
    evidence = jnp.asarray([[[[0.0, -200.0]], [[-200.0, 0.0]], [[0.0, math.log(3)]]]])
    belief = recursion(evidence, jnp.log(jnp.eye(2))[None], jnp.log(jnp.full((1, 2), 0.5)))
    np.testing.assert_allclose(np.exp(belief[0, :, 0]), [[1, 0], [0.5, 0.5], [0.25, 0.75]], atol=1e-6)
    np.testing.assert_allclose(belief[0, 0, 0, 1], -200, atol=1e-4)


def test_ahead_is_a_step_of_the_chain(problem):
    _, transition, start = problem
    with np.errstate(divide="ignore"):
        log_next = ahead(jnp.log(start), jnp.log(transition[0, 0]))
    np.testing.assert_allclose(np.exp(log_next), np.einsum("nm,nmk->nk", start, transition[0, 0]), rtol=1e-5)


def test_a_transition_among_the_features_can_be_selected():
    """U selects the logarithms of the features: T of a token is T of its features, up to ε."""
    layer = Filter(Belief(width=4, slots=2, transition="content"), Shape(4, 0, 2, 3), nnx.Rngs(0))
    rows = np.asarray([[0.98, 0.02], [0.1, 0.9]])
    layer.transition[...] = jnp.zeros((1, 2, 2))
    layer.change.kernel[...] = jnp.eye(4) * math.log(1e3) / 2
    log_transition = layer.log_transition(jnp.asarray(rows.reshape(1, 1, 4)))
    np.testing.assert_allclose(np.exp(log_transition[0, 0, 0]), rows, atol=2e-3)


def test_taps_see_the_evidence_and_the_belief_and_replace_them():
    """The replaced belief is read as it is; replaced evidence is filtered."""
    module = Belief(width=4, slots=3).build(None, Shape(2, 0, 5, 4), jax.random.key(0))
    inputs, at, seen = jax.random.normal(jax.random.key(1), (2, 4, 2)), np.arange(4), Collect("evidence", "belief")
    logits = module(inputs, at, tap=seen)
    assert seen["evidence"][0].shape == seen["belief"][0].shape == (2, 4, 1, 3)
    np.testing.assert_allclose(np.exp(seen["belief"][0]).sum(-1), 1, rtol=1e-5)
    changed = inputs.at[:, 2].add(1.0)
    taken = module(changed, at, tap=Tap(lambda depth, kind, value: seen["evidence"][0], "evidence"))
    np.testing.assert_allclose(taken[:, 3], logits[:, 3], atol=1e-5)
    assert not np.allclose(module(changed, at, tap=Closed())[:, 3], logits[:, 3], atol=1e-4)

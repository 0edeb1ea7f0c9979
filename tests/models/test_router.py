"""A router: a uniform gate is no gate, and any other weighs the context of its heads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.composed import plain
from tests.models.small import FEATURES, LENGTH, OUTCOMES
from windtunnel import door
from windtunnel.errors import BadInput
from windtunnel.matrices import hidden
from windtunnel.models import Router, Shape, Transformer, parameters, score, with_parameters
from windtunnel.models.position import Alibi
from windtunnel.models.tap import Collect, Tap

AT = np.arange(LENGTH)
WEIGHT = jax.random.normal(jax.random.key(2), (8, 2))


def built(router):
    spec = Transformer(layers=2, heads=4, width=8, hidden=8, router=router)
    return spec.build(Alibi(), Shape(FEATURES, 0, OUTCOMES, LENGTH), jax.random.key(0))


def turned(module, weight):
    """The module with this weight of its gate."""
    params = parameters(module)
    params["layers"]["1"]["attention"]["router"]["weight"] = weight
    return with_parameters(module, params)


@pytest.fixture(scope="module")
def inputs():
    return jax.random.normal(jax.random.key(1), (2, LENGTH, FEATURES))


def test_a_uniform_gate_is_the_model_without_one_and_what_is_not_routed_weighs_nothing(inputs):
    plainly, routed, unrouted = built(None), built(Router()), built(Router(routed=False))
    unrouted = turned(unrouted, WEIGHT)
    one, other, third = jax.jit(lambda x: (plainly(x, AT), routed(x, AT), unrouted(x, AT)))(inputs)
    np.testing.assert_allclose(other, one, atol=1e-6)
    np.testing.assert_allclose(third, one, atol=1e-6)


def test_the_gate_weighs_the_context_of_each_group_of_heads(inputs):
    module = turned(built(Router()), WEIGHT)
    by_hand = jnp.log(jnp.asarray([0.75, 0.25]))

    def look(x, tap):
        seen = Collect("context", "gate", "residual")
        logits = module(x, AT, tap=lambda depth, kind, value: seen(depth, kind, tap(depth, kind, value)))
        return logits, seen.seen

    @jax.jit
    def all_three(x):
        def weighed(depth, kind, value):  # the same by the context of heads
            if (depth, kind) == (1, "context"):
                return value * jnp.asarray([1.5, 1.5, 0.5, 0.5])[None, :, None, None]
            return jnp.log(jnp.full_like(value, 0.5)) if kind == "gate" else value

        given = Tap(lambda depth, kind, value: jnp.broadcast_to(by_hand, value.shape), "gate")
        return look(x, lambda depth, kind, value: value), look(x, given), look(x, weighed)

    (own, seen), (forced, _), (weighed, _) = all_three(inputs)
    assert list(seen["gate"]) == [1] and seen["gate"][1].shape == (2, LENGTH, 2), "at the top alone"
    np.testing.assert_allclose(np.exp(seen["gate"][1]).sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(forced, weighed, atol=1e-5)
    assert not np.allclose(own, forced, atol=1e-3)


def test_by_evidence_the_gate_is_bayes_rule_on_the_normalisers_of_the_priors(inputs, monkeypatch):
    """Against plain loops over what a tap shows; and a few queries at a time."""
    module = built(Router(by="evidence"))

    def shown(x):
        seen = Collect("queries", "keys", "gate")
        module(x, AT, tap=seen)
        return seen["queries"][1], seen["keys"][1], seen["gate"][1], module(x, AT)

    q, k, gate, logits = map(np.asarray, jax.jit(shown)(inputs))
    slopes = 2.0 ** (-8.0 * np.arange(1, 5) / 4)
    np.testing.assert_array_equal(q, np.broadcast_to(q[:, :1], (2, 4, LENGTH, 2)))
    for b in range(2):
        total = np.zeros(2)
        for t in range(LENGTH):
            content = [q[b, 0, t] @ k[b, 0, j] / np.sqrt(2) for j in range(t + 1)]
            priors = np.exp(-slopes[:, None] * (t - np.arange(t + 1))[None])
            priors /= priors.sum(axis=1, keepdims=True)
            total += np.log(priors @ np.exp(content)).reshape(2, 2).mean(axis=1)
            np.testing.assert_allclose(np.exp(gate[b, t]), np.exp(total) / np.exp(total).sum(), atol=1e-5)
    monkeypatch.setattr(score, "QUERIES", 3)
    by_few = jax.jit(lambda x: module(x, AT))(inputs)
    np.testing.assert_allclose(by_few, logits, atol=1e-6)
    assert (
        np.abs(gate[:, -1] - np.log(0.5)).max() > 1e-3
        and "router" not in parameters(module)["layers"]["1"]["attention"]
    )


def test_its_weight_is_no_hidden_matrix():
    masks = hidden(parameters(built(Router())))["layers"]["1"]["attention"]
    assert masks["query"]["kernel"] and not masks["router"]["weight"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.router={groups: 3}"], "model.router.groups=3: must divide model.heads=2"),
        (["model.router={groups: 2}", "+term=domain"], "train.terms.domain: recall has no domains .*tunnel=mixture"),
        (["tunnel=mixture_conflict", "+term=domain"], "train.terms.domain: model transformer has no gate"),
        (["tunnel=mixture_conflict", "model.router={groups: 3}", "+term=domain"], "has a gate over 3, the tunnel 2"),
        (
            ["tunnel=mixture_conflict", "+term=separation", "train.terms.separation.layer=7"],
            "train.terms.separation: layer=7: the model has 3 layers",
        ),
    ],
)
def test_the_door_refuses_in_one_line(overrides, message):
    with pytest.raises(BadInput, match=message):
        door.configuration(plain(*overrides))

"""Experts weighed by gathered evidence: Bayes' rule over them, causal, annealed, and refused where there is none."""

import itertools
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.composed import plain
from windtunnel import door
from windtunnel.errors import BadInput
from windtunnel.models import Experts, Shape, parameters, with_parameters
from windtunnel.models.position import Alibi, GeneralizedGaussian, Uniform
from windtunnel.models.tap import Collect, Tap
from windtunnel.spec import arrays

OUTCOMES, LENGTH, EVERY = 3, 6, np.arange(6)
SEQUENCES = jnp.asarray([[4, 0, 2, 3, 1, 1], [3, 1, 1, 4, 0, 2]])  # 3 and 4 show no outcome
SWITCHING = ("never", "at_starts", "anywhere")


@cache
def built(switching):
    """Three experts, with transitions that are far from where they start."""
    spec = Experts(
        positions=(Uniform(), Alibi(), GeneralizedGaussian(scale=2.0)),
        layers=1, heads=2, width=4, hidden=4, switching=switching,
    )  # fmt: skip
    module = arrays(spec).build(None, Shape(0, 5, OUTCOMES, LENGTH), jax.random.key(0))
    params = jax.tree.map(
        lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(1), leaf.shape), parameters(module)
    )
    return with_parameters(module, params), params


@pytest.fixture(params=SWITCHING, scope="module")
def experts(request):
    return built(request.param)[0]


def seen(module, sequences, progress=None):
    """The logits, log-gates [B, T, K] and what each expert says by itself [K, B, T, V]."""

    @jax.jit
    def look(sequences):
        tap = Collect("gate")
        logits = module(sequences, EVERY, tap=tap, progress=progress)
        alone = [jax.nn.log_softmax(module.experts[str(k)](sequences, EVERY)) for k in range(3)]
        return logits, tap["gate"][2], jnp.stack(alone)

    return jax.tree.map(np.asarray, look(sequences))


def transitions(switching, token):
    """T before a token, in plain numbers."""
    _, params = built(switching)
    if switching == "never" or (switching == "at_starts" and token < OUTCOMES):
        return np.eye(3)
    z = 10 * np.asarray(params["transition"], float)[0 if switching == "anywhere" else token - OUTCOMES]
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("switching", SWITCHING)
def test_weights_are_the_posterior_over_all_paths_of_experts(switching):
    module, _ = built(switching)
    logits, log_gate, log_p = seen(module, SEQUENCES)
    for b, sequence in enumerate(np.asarray(SEQUENCES)):
        for t in range(LENGTH):
            joint = np.zeros(3)
            for path in itertools.product(range(3), repeat=t + 1):
                weight, before = 1.0, None
                for s, k in enumerate(path):
                    transition = transitions(switching, sequence[s])
                    weight *= transition[:, k].mean() if before is None else transition[before, k]
                    if s < t and sequence[s + 1] < OUTCOMES:
                        weight *= np.exp(log_p[k, b, s, sequence[s + 1]])
                    before = k
                joint[path[-1]] += weight
            np.testing.assert_allclose(np.exp(log_gate[b, t]), joint / joint.sum(), atol=1e-5)
    np.testing.assert_allclose(np.exp(logits), np.einsum("btk,kbtv->btv", np.exp(log_gate), np.exp(log_p)), atol=1e-5)


def test_no_weight_and_no_logit_depends_on_a_later_token(experts):
    """Bit for bit; and on every earlier one they do. The weight before an outcome has not seen it."""
    call = jax.jit(lambda sequences: (experts(sequences, EVERY), gate(experts, sequences)))
    sequence = SEQUENCES[:1]
    changed = jnp.concatenate([sequence.at[0, s].set((sequence[0, s] + 1) % OUTCOMES) for s in range(LENGTH)])
    same, other = call(jnp.tile(sequence, (LENGTH, 1))), call(changed)
    for before, after in zip(same, other, strict=True):
        differs_ST = np.any(np.asarray(before) != np.asarray(after), axis=-1)
        assert not differs_ST[np.tril_indices(LENGTH, -1)].any()
        assert differs_ST[np.triu_indices(LENGTH, 2)].all()


def gate(module, sequences):
    tap = Collect("gate")
    module(sequences, EVERY, tap=tap)
    return tap["gate"][2]


def test_some_tokens_as_all_and_a_longer_sequence_begins_like_a_shorter_one(experts):
    whole, some, longer = jax.jit(
        lambda x: [
            experts(x, EVERY), experts(x, np.asarray([1, 4])), experts(jnp.concatenate([x, x[:, 1:]], 1), EVERY)
        ]
    )(SEQUENCES)  # fmt: skip
    np.testing.assert_allclose(some, whole[:, [1, 4]], atol=1e-6)
    np.testing.assert_allclose(longer, whole, atol=1e-5)


def test_evidence_comes_to_count_over_the_first_half_of_training():
    module, _ = built("never")
    log_gate = [seen(module, SEQUENCES, progress=share)[1] for share in (0.0, 0.25, 0.5, 1.0)]
    full = seen(module, SEQUENCES)[1]
    np.testing.assert_allclose(np.exp(log_gate[0]), 1 / 3, atol=1e-6)
    tempered = full / 2 - np.log(np.exp(full / 2).sum(-1, keepdims=True))
    np.testing.assert_allclose(log_gate[1], tempered, atol=1e-5)
    for late in log_gate[2:]:
        np.testing.assert_allclose(late, full, atol=1e-6)


def test_gradients_flow_through_the_weights():
    """Without them, experts end half trained and swapped: of a weight, the gradient of every expert is not zero."""
    module, params = built("never")

    @jax.jit
    @jax.grad
    def of_a_weight(params):
        return gate(with_parameters(module, params), SEQUENCES)[0, 3, 0]

    gradient = of_a_weight(params)["experts"]
    assert all(np.abs(gradient[str(k)]["head"]["kernel"]).max() > 0 for k in range(3))


def test_taps_have_a_depth_for_each_layer_of_each_expert_and_change_what_follows():
    module, _ = built("never")
    calls = []

    def both(sequences):
        def look(depth, kind, value):
            calls.append((depth, kind))
            return value

        forced = Tap(lambda depth, kind, value: jnp.log(jnp.asarray([0.0, 1.0, 0.0]))[None, None] + 0 * value, "gate")
        return module(sequences, EVERY, tap=look), module(sequences, EVERY, tap=forced)

    whole, second = jax.jit(both)(SEQUENCES)
    assert len(calls) == len(set(calls)), "everything is shown once"
    assert [depth for depth, kind in calls if kind == "residual"] == [0, 1, 2]
    assert calls[-2:] == [(2, "gate"), (2, "logits")]
    log_p = seen(module, SEQUENCES)[2]
    np.testing.assert_allclose(second, log_p[1], atol=1e-5)
    assert not np.allclose(whole, second, atol=1e-3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tunnel=recall"], "model=experts: weighs by the evidence of outcomes, and inputs of recall do not show"),
        (["tunnel=hops"], "inputs of hops do not show each outcome"),
        (["tunnel=die", "model.positions=[{name: randomised, range: 4}]"], "model.positions.0.range=4: has no place"),
        (["tunnel=die", "model.heads=3"], "model.heads=3: must divide model.width=22"),
        (["tunnel=die", "model.positions=[]"], "model.positions"),
        (["tunnel=die", "position=alibi"], "position=alibi: model experts takes none"),
    ],
)
def test_the_door_refuses_in_one_line(overrides, message):
    with pytest.raises(BadInput, match=message) as refused:
        door.configuration(plain("model=experts", *overrides))
    assert "\n" not in str(refused.value)

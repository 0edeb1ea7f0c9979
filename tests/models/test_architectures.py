"""The architectures beside the transformer, and the transformer looped: all causal, all against plain loops."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests import composed
from tests.models.small import FEATURES, LENGTH, OUTCOMES
from windtunnel.errors import BadInput
from windtunnel.matrices import hidden
from windtunnel.models import (
    Belief,
    Depth,
    Feedback,
    Gru,
    Lstm,
    Memory,
    Mlp,
    Router,
    Segments,
    Shape,
    Ssd,
    Ssm,
    Transformer,
    parameters,
    ssm,
    takes_position,
    with_parameters,
)
from windtunnel.models.position import Alibi, PerLayer, Uniform
from windtunnel.models.residual import in_order, numbered
from windtunnel.models.tap import Collect
from windtunnel.spec import arrays

# A new architecture is a row here.
MODELS = {
    "gru": Gru(layers=2, width=8),
    "lstm": Lstm(layers=2, width=8),
    "ssm": Ssm(layers=2, width=8, states=3),
    "ssd": Ssd(layers=2, width=8, head=4, states=3),
    "mlp": Mlp(layers=2, width=8, hidden=8, window=LENGTH),
    "looped": Transformer(layers=2, heads=2, width=8, hidden=8, loops=2),
    "gated": Transformer(layers=1, heads=2, width=8, hidden=8, embedding="gated"),
    "routed": Transformer(layers=2, heads=2, width=8, hidden=8, router=Router()),
    "routed_by_evidence": Transformer(layers=1, heads=2, width=8, hidden=8, router=Router(by="evidence")),
    "looped_adaptive": Transformer(layers=1, heads=2, width=8, hidden=8, loops=2, depth=Depth(max_iterations=8)),
    "belief": Belief(width=8, chains=2, slots=3),
    "belief_content": Belief(width=8, chains=2, slots=3, transition="content"),
    "feedback": Feedback(layers=2, heads=2, width=8, hidden=8, window=2),
    "feedback_adaptive": Feedback(layers=2, heads=2, width=8, hidden=8, window=2, depth=Depth(max_iterations=8)),
    "memory": Memory(layers=2, heads=2, width=8, hidden=8, slots=3, window=2),
    "memory_delta": Memory(layers=1, heads=2, width=8, hidden=8, store="delta"),
    "segments": Segments(layers=2, heads=2, width=8, hidden=8, segment=3, memory=2),
}
TAPS = {
    "gru": ["state"],
    "lstm": ["state"],
    "ssm": ["state"],
    "ssd": ["state"],
    "mlp": [],
    "belief": ["evidence", "belief"],
    "segments": ["memory"],
    "memory": ["memory"],
    "feedback": [],
}
CHANGED = ("embedding", "state", "evidence", "belief", "memory", "residual", "logits")
ONE_DEPTH = ("segments", "feedback")  # models that show their residual states once, after the last layer
AT = np.arange(LENGTH)


@cache
def built(spec, position=None):
    usual = Alibi() if spec.gates else Uniform()  # by evidence a gate tells heads apart by their priors
    position = arrays(position or usual) if takes_position(spec.name) else None
    return arrays(spec).build(position, Shape(FEATURES, 0, OUTCOMES, LENGTH), jax.random.key(0))


# Of two that share their code, the fast tests ask one.
ALIKE = {"lstm", "looped_adaptive", "belief_content", "feedback_adaptive", "memory_delta"}
ROWS = [pytest.param(spec, id=name, marks=[pytest.mark.slow] * (name in ALIKE)) for name, spec in MODELS.items()]


@pytest.fixture(params=ROWS, scope="module")
def spec(request):
    return request.param


@pytest.fixture(scope="module")
def module(spec):
    return built(spec)


@pytest.fixture(scope="module")
def inputs():
    return jax.random.normal(jax.random.key(1), (2, LENGTH, FEATURES))


@pytest.fixture(scope="module")
def call(module):
    """The model as a function of its parameters, which go out and come back: one program for all that follows."""
    return jax.jit(lambda params, x: with_parameters(module, params)(x, AT))


@pytest.fixture(scope="module")
def whole(module, call, inputs):
    return call(parameters(module), inputs)


def test_no_logit_depends_on_a_later_token_and_alone_it_is_as_in_a_batch(spec, module, inputs, whole):
    """By gradients that are exactly zero, not small; of the module as it was built, parameters inside."""

    def alone(x):
        logits = module(x[None], AT)[0]
        return logits, logits

    differentiated = jax.jacfwd if spec.depth else jax.jacrev  # what iterates until it settles has no reverse mode
    jacobian, logits = jax.jit(differentiated(alone, has_aux=True))(inputs[1])  # [P, V, T, F]
    size_PT = np.abs(np.asarray(jacobian)).sum(axis=(1, 3))
    assert (size_PT[np.triu_indices(LENGTH, 1)] == 0).all()
    assert (size_PT[np.tril_indices(LENGTH)] > 0).all(), "and on every earlier one it does"
    np.testing.assert_allclose(logits, whole[1], atol=1e-5)


def test_some_tokens_are_as_all_also_where_the_sequence_goes_on(module, inputs, whole):
    longer = jnp.concatenate([inputs, 1 + inputs], axis=1)
    several = (jnp.asarray([0, 1, 4, 6]), np.asarray([3]))
    asked = jax.jit(lambda x: [module(x, at) for at in several])(longer)
    for at, logits in zip(several, asked, strict=True):
        np.testing.assert_allclose(logits, whole[:, at], atol=1e-5)


def test_taps_see_without_changing_and_intervene(spec, module, inputs, whole):
    at, calls, shapes = np.asarray([2, 5]), [], {}

    def look(depth, kind, value):
        assert (depth, kind) not in calls, "everything is shown once"
        calls.append((depth, kind))
        shapes[depth, kind] = value.shape
        return value

    jax.eval_shape(lambda x: module(x, at, tap=look), inputs)
    depth = 1 if spec.name in ONE_DEPTH or spec.depth else spec.layers * getattr(spec, "loops", 1)
    assert [depth for depth, kind in calls if kind == "residual"] == list(range(depth))
    assert shapes[depth - 1, "residual"] == (2, 2, 8)
    if spec.name in TAPS or spec.depth:
        kinds = ["iterations"] if spec.depth else TAPS[spec.name]
        layers = [(i, kind) for i in range(depth) for kind in [*kinds, "residual"]]
        assert calls == [(0, "embedding"), *layers, (depth - 1, "logits")]

    changing = [call for call in calls if call[1] in CHANGED]

    @jax.jit
    def changed(x, factor_C):
        """With all that is shown of the first example of two multiplied: by 1, by which nothing changes, or by -2."""

        def scaled(depth, kind, value):
            known = (depth, kind) in changing
            return value.at[0].multiply(factor_C[changing.index((depth, kind))]) if known else value

        return module(x, at, tap=scaled)

    for factor_C in np.where(np.eye(len(changing) + 1, len(changing), dtype=bool), -2.0, 1.0).astype(np.float32):
        logits = changed(inputs, factor_C)
        np.testing.assert_allclose(logits[1], whole[1, at], atol=1e-5)
        assert np.allclose(logits[0], whole[0, at], atol=1e-4) == (factor_C == 1).all()


def test_states_are_kept_only_for_those_who_look(inputs, monkeypatch):
    """Of a state space, [B, T, N, E] for all tokens: every evaluation held them."""
    module = Ssm(layers=1, width=8, states=2).build(None, Shape(FEATURES, 0, 4, LENGTH), jax.random.key(0))
    kept = []
    scan = ssm.scan
    monkeypatch.setattr(ssm, "scan", lambda *parts, keep: kept.append(keep) or scan(*parts, keep=keep))
    for tap in ({}, {"tap": Collect("residual")}, {"tap": Collect("state")}):
        jax.eval_shape(lambda x, tap=tap: module(x, AT, **tap), inputs)
    assert kept == [False, False, True]


def test_other_parameters_are_another_function(module, call, inputs, whole):
    """That its own come back as they went out, each test above that has the module itself says."""
    assert not np.allclose(call(jax.tree.map(lambda leaf: leaf + 1.0, parameters(module)), inputs), whole)


def test_tokens_in_place_of_features(spec):
    position = Uniform() if takes_position(spec.name) else None
    module = jax.eval_shape(lambda key: spec.build(position, Shape(0, 5, 4, 7), key), jax.random.key(0))
    assert parameters(module)["embedding"]["embedding"].shape == (5, 8)


@pytest.mark.parametrize(
    "spec",
    [Gru(layers=1, width=8), Ssm(layers=1, width=8, states=64), MODELS["ssd"], MODELS["mlp"], MODELS["belief_content"]],
)
def test_memory_of_a_long_evaluation_is_linear_in_the_length(spec):
    def bytes_of(length):
        module, at = built(spec), np.asarray([length - 1])
        inputs = jax.ShapeDtypeStruct((1, length, FEATURES), jnp.float32)
        return jax.jit(lambda x: module(x, at)).lower(inputs).compile().memory_analysis().temp_size_in_bytes

    assert bytes_of(1024) < 2.1 * bytes_of(512)


# The window.


def test_a_window_sees_its_tokens_each_at_its_place_and_nothing_before(inputs):
    module = built(Mlp(layers=1, width=8, hidden=8, window=3))
    jacobian = jax.jit(jax.jacrev(lambda x: module(x[None], AT)[0]))(inputs[0])
    size_PT = np.abs(np.asarray(jacobian)).sum(axis=(1, 3))
    inside = np.tril(np.ones((LENGTH, LENGTH), bool)) & ~np.tril(np.ones((LENGTH, LENGTH), bool), -3)
    np.testing.assert_array_equal(size_PT > 0, inside)
    swapped = inputs[:, jnp.asarray([1, 0, 2, 3, 4, 5, 6])]
    assert not np.allclose(module(inputs, np.asarray([2])), module(swapped, np.asarray([2]))), "order is seen"


# The loop.


def test_a_loop_is_the_same_layers_again(inputs):
    """By a transformer of twice the layers, the second half with the weights of the first."""
    positions = (Alibi(), Uniform())
    looped = built(MODELS["looped"], PerLayer(layers=positions))
    params = parameters(looped)
    assert len(params["layers"]) == 2
    unrolled = built(Transformer(layers=4, heads=2, width=8, hidden=8), PerLayer(layers=positions * 2))
    again = {str(i): params["layers"][str(i % 2)] for i in range(4)}
    unrolled = with_parameters(unrolled, {**params, "layers": again})
    loop_logits, other = jax.jit(lambda x: (looped(x, AT), unrolled(x, AT)))(inputs)
    np.testing.assert_allclose(loop_logits, other, atol=1e-5)


def test_the_eleventh_layer_comes_after_the_tenth():
    """Flax sorts the names of layers when parameters are put back, and 10 is before 2."""

    class Deep(nnx.Module):
        def __init__(self):
            self.layers = numbered([nnx.Linear(1, 1, rngs=nnx.Rngs(0)) for _ in range(11)])
            for i, layer in enumerate(in_order(self.layers)):
                layer.bias[...] = jnp.full(1, i)

    again = with_parameters(Deep(), parameters(Deep()))
    assert [int(layer.bias[0]) for layer in in_order(again.layers)] == [*range(11)]


# What is turned by Muon, and what the door says.


def test_muon_turns_linear_maps_alone():
    turned = {
        name: {
            jax.tree_util.keystr(path[2:], simple=True, separator=".")
            for path, is_hidden in jax.tree_util.tree_leaves_with_path(hidden(parameters(built(MODELS[name]))))
            if is_hidden
        }
        for name in ("gru", "ssm", "ssd", "mlp", "looped", "belief")
    }
    assert turned["gru"] == {"input.kernel", "recurrent.kernel"}
    ssms = ("enter", "gate", "rank", "delta", "write", "read", "leave")
    assert turned["ssm"] == {f"{name}.kernel" for name in ssms}
    assert turned["ssd"] == {f"{name}.kernel" for name in ("enter", "gate", "delta", "write", "read", "leave")}
    assert turned["belief"] == {"query.kernel", "value.kernel"}
    assert turned["mlp"] == {"linear.kernel", "up.kernel", "down.kernel"}
    attention = {f"attention.{name}.kernel" for name in ("query", "key", "value", "output")}
    assert turned["looped"] == attention | {"up.kernel", "down.kernel"}


@pytest.mark.parametrize("model", ["gru", "lstm", "ssm", "ssd", "mlp", "belief", "segments", "feedback", "memory"])
def test_a_presets_position_is_left_out_and_a_typed_one_refused(model):
    for tunnel in ("hmm", "recall"):
        assert composed.study(f"model={model}", f"tunnel={tunnel}").position is None
    for typed in ("position=rope", "position.scale=3", "++position.scale=3"):
        with pytest.raises(
            BadInput, match=rf"^position=\w+: model {model} takes none \(valid with model=transformer\)$"
        ):
            composed.study(f"model={model}", typed)


def test_presets_are_as_large_as_the_deep_transformer():
    from windtunnel.train import start

    def count(model):
        params = jax.eval_shape(start, arrays(composed.study("tunnel=hmm", f"model={model}"))).params
        return sum(leaf.size for leaf in jax.tree.leaves(params))

    deep = count("deep")
    for model in ("gru", "lstm", "ssm", "ssd", "mlp", "looped"):
        assert abs(count(model) / deep - 1) < 0.05

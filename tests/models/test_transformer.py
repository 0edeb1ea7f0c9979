"""The transformer: causal, the same in chunks as at once, and open to taps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.small import FEATURES, LENGTH, POSITIONS, built, rows
from windtunnel.models import Shape, Transformer, attention, blocks, parameters, with_parameters
from windtunnel.models.position import Alibi, PerLayer, Uniform
from windtunnel.models.tap import Collect, Tap

AT = jnp.arange(LENGTH)


@pytest.fixture(params=rows(POSITIONS))
def position(request):
    return POSITIONS[request.param]


def layers(position):
    """As few as show it: what holds of a layer holds of a stack."""
    return len(position.layers) if isinstance(position, PerLayer) else 1


@pytest.fixture
def inputs():
    return jax.random.normal(jax.random.key(1), (2, LENGTH, FEATURES))


def test_no_logit_depends_on_a_later_token_and_in_chunks_all_and_some_are_as_at_once(position, inputs, monkeypatch):
    """By gradients that are exactly zero, not small; and by the logits that came with them."""
    module, _ = built(position, layers(position))

    def at_once(x):
        logits = module(x[None], AT)[0]
        return logits, logits

    jacobian, whole = jax.jit(jax.jacrev(at_once, has_aux=True))(inputs[0])  # [P, V, T, F]
    size_PT = np.abs(np.asarray(jacobian)).sum(axis=(1, 3))
    assert (size_PT[np.triu_indices(LENGTH, 1)] == 0).all()
    assert (size_PT[np.tril_indices(LENGTH)] > 0).all(), "and on every earlier one it does"
    several = (AT, jnp.asarray([1, 4, 6]))
    monkeypatch.setattr(blocks, "CHUNK", 3)  # 7 queries: the last chunk is padded; 3 are one chunk
    in_chunks = jax.jit(lambda x: [module(x[None], at)[0] for at in several])(inputs[0])
    for at, logits in zip(several, in_chunks, strict=True):
        np.testing.assert_allclose(logits, whole[at], atol=1e-6)


@pytest.mark.parametrize("name", ["uniform", "learned", "rope", "alibi", "per_layer"])
def test_a_tap_that_changes_nothing_changes_nothing(name, inputs):
    """Where positions are added below, are turned, are a bias, and differ by layer."""
    module, _ = built(POSITIONS[name])
    kinds, at = [], jnp.asarray([2, 5])

    @jax.jit
    def both(inputs):
        def tap(depth, kind, value):
            kinds.append((depth, kind))
            return seen(depth, kind, value)

        seen = Collect()
        return module(inputs, at, tap=tap), module(inputs, at), seen["attention"][0]

    looked_at, alone, rows = both(inputs)
    np.testing.assert_allclose(looked_at, alone, atol=1e-6)
    rows = np.asarray(rows)
    assert rows.shape == (2, 2, 2, LENGTH), "[B, N, P, T], for the queries `at` only"
    np.testing.assert_allclose(rows.sum(-1), 1, atol=1e-6)
    assert (rows[:, :, 0, 3:] == 0).all() and (rows[:, :, 1, 6:] == 0).all()
    layer = ("queries", "keys", "values", "scores", "attention", "context", "residual")
    assert kinds == [(0, "embedding"), *((i, kind) for i in (0, 1) for kind in layer), (1, "logits")]


def test_a_tap_intervenes(inputs):
    module, _ = built(Uniform(), layers=1)
    at = jnp.asarray([6])

    first_only = Tap(lambda _, kind, value: jax.nn.one_hot(jnp.zeros(value.shape[:-1], int), LENGTH), "attention")
    call = jax.jit(lambda inputs: module(inputs, at, tap=first_only))
    looks_at_first = call(inputs)
    # What it does not look at, it does not see: only its own residual stream and the first token remain.
    np.testing.assert_allclose(call(inputs.at[:, 1:6].set(0.0)), looks_at_first, atol=1e-6)
    assert not np.allclose(jax.jit(lambda inputs: module(inputs, at))(inputs), looks_at_first)


def test_gradients_with_respect_to_an_intermediate(inputs):
    """Adding a zero is enough: ∂L/∂s = α (b − E_α[b]) with b = ⟨∂L/∂context, v⟩ (SCIENCE §6)."""
    module, _ = built(Alibi(), layers=1)

    def loss(zeros):
        seen = Collect()

        def tap(depth, kind, value):
            return seen(depth, kind, value) + zeros.get(kind, 0.0)

        total = jnp.sum(jnp.square(module(inputs, jnp.asarray([4]), tap=tap)))
        return total, {kind: seen[kind][0] for kind in ("scores", "context", "attention", "values")}

    shapes = jax.eval_shape(loss, {})[1]
    zeros = {kind: jnp.zeros(shapes[kind].shape) for kind in ("scores", "context")}
    gradient, seen = jax.jit(jax.grad(loss, has_aux=True))(zeros)
    attention_BNPT, values_BNTd = seen["attention"], seen["values"]
    b_BNPT = jnp.einsum("bnpd,bntd->bnpt", gradient["context"], values_BNTd)
    expected = attention_BNPT * (b_BNPT - jnp.sum(attention_BNPT * b_BNPT, axis=-1, keepdims=True))
    np.testing.assert_allclose(gradient["scores"], expected, atol=1e-6)
    assert np.abs(expected).max() > 1e-4


def test_one_position_per_layer_is_the_single_one_when_they_agree(inputs):
    single, _ = built(Alibi())
    listed, _ = built(PerLayer(layers=(Alibi(), Alibi())))
    np.testing.assert_array_equal(*jax.jit(lambda inputs: (single(inputs, AT), listed(inputs, AT)))(inputs))


@pytest.mark.parametrize("softmax", ["scalable_outside", "scalable_inside"])
def test_the_scalable_softmax_starts_as_the_plain_one_at_the_last_trained_token(inputs, softmax):
    spec = Transformer(layers=1, heads=2, width=8, hidden=8, softmax=softmax)
    scalable = spec.build(Alibi(), Shape(FEATURES, 0, 4, LENGTH), jax.random.key(0))
    plain, _ = built(Alibi(), layers=1)

    @jax.jit
    def both(params):
        def wave(params):
            logits = with_parameters(scalable, params)(inputs, AT)
            return jnp.sum(jnp.sin(logits)), logits

        return *jax.grad(wave, has_aux=True)(params), plain(inputs, AT)

    slope, logits, plain_logits = both(parameters(scalable))
    np.testing.assert_allclose(logits[:, -1], plain_logits[:, -1], atol=1e-6)
    assert not np.allclose(logits[:, 3], plain_logits[:, 3])
    assert (slope["layers"]["0"]["attention"]["sharpness"] != 0).all(), "learned, per head"
    assert slope["layers"]["0"]["attention"]["sharpness"].shape == (2,)


def test_nothing_is_made_that_nobody_looks_at(inputs, monkeypatch):
    """A tap that wants keys is shown no scores, and these are not written out; how attention was computed comes by a
    channel of its own.
    """
    module, _ = built(Alibi())
    monkeypatch.setattr(attention, "scores", lambda *_: pytest.fail("scores were written out"))
    seen, readings = Collect("keys"), []
    jax.eval_shape(lambda inputs: module(inputs, AT, tap=seen, readings=readings), inputs)
    assert set(seen.seen) == {"keys"} and set(seen["keys"]) == {0, 1}
    assert [reading.kernel for reading in readings] == ["whole", "whole"]

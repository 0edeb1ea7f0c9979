"""The external memory: local attention, slots and delta rules, against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from windtunnel.models import Memory, Shape
from windtunnel.models.memory import Delta, Local, Slots
from windtunnel.models.tap import Collect, Tap

SPEC = Memory(width=8, heads=2, hidden=8, slots=3, window=3)
X = jax.random.normal(jax.random.key(1), (2, 7, 8))


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum()


def test_local_attention_sees_the_last_tokens_alone():
    layer = Local(SPEC, nnx.Rngs(0))
    layer.log_lag[...] = jax.random.normal(jax.random.key(2), (2, 3))
    q, k, v = (
        np.asarray(X @ linear.kernel[...]).reshape(2, 7, 2, 4) for linear in (layer.query, layer.key, layer.value)
    )
    context = np.zeros((2, 7, 2, 4))
    for b, t, n in np.ndindex(2, 7, 2):
        seen = range(max(0, t - 2), t + 1)
        weights = softmax([q[b, t, n] @ k[b, s, n] / 2 + layer.log_lag[n, t - s] for s in seen])
        context[b, t, n] = sum(w * v[b, s, n] for w, s in zip(weights, seen, strict=True))
    np.testing.assert_allclose(layer(X), context.reshape(2, 7, 8) @ layer.output.kernel[...], atol=1e-5)


def test_slots_in_plain_loops():
    store = Slots(SPEC, nnx.Rngs(0))
    slots, z = np.asarray(store.first(2)), np.asarray(X[:, 0])
    written, read = np.asarray(store.write(slots, z)), np.asarray(store.read(slots, z))
    for b in range(2):
        keys = store.names[...] + slots[b] @ store.content.kernel[...]
        where = softmax(np.asarray(store.address(z[b]) @ keys.T / np.sqrt(8)))
        gate, add = np.asarray(jax.nn.sigmoid(store.gate(z[b]))), np.tanh(store.add(z[b]))
        for m in range(3):
            expected = slots[b, m] * (1 - where[m] * gate) + where[m] * gate * add
            np.testing.assert_allclose(written[b, m], expected, atol=1e-6)
        np.testing.assert_allclose(
            read[b], softmax(np.asarray(store.ask(z[b]) @ keys.T / np.sqrt(8))) @ slots[b], atol=1e-6
        )


def test_a_delta_matrix_holds_as_many_pairs_as_it_has_columns_and_no_more():
    """Writing orthonormal keys with β = 1 and α = 1, every value is read back; a pair more disturbs one of them."""
    store = Delta(Memory(width=4, heads=1, store="delta"), nnx.Rngs(0))
    store.gates.kernel[...], store.gates.bias[...] = jnp.zeros((4, 2)), jnp.asarray([0.0, 30.0])
    keys = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    matrix = store.first(1)
    for key in keys:
        store.key.kernel[...], store.value.kernel[...] = jnp.eye(4), 2 * jnp.eye(4)
        matrix = store.write(matrix, jnp.asarray(key[None], jnp.float32))
    store.query.kernel[...] = jnp.eye(4)
    for key in keys:
        np.testing.assert_allclose(store.read(matrix, jnp.asarray(key[None], jnp.float32))[0], 2 * key, atol=1e-4)
    extra = jnp.asarray(keys.sum(0)[None] / 2, jnp.float32)
    store.value.kernel[...] = -jnp.eye(4)
    matrix = store.write(matrix, extra)
    np.testing.assert_allclose(store.read(matrix, extra), -extra, atol=1e-4)
    wrong = [np.abs(store.read(matrix, jnp.asarray(key[None], jnp.float32))[0] - 2 * key).max() for key in keys]
    assert max(wrong) > 0.1


def test_slots_hold_one_pair_each_and_no_more():
    """Written to one slot each, values are read back by the names of their slots; one more takes the place of one."""
    store = Slots(Memory(width=4, slots=3), nnx.Rngs(0))
    far = 1e3 * jnp.eye(3, 4)
    store.names[...], store.content.kernel[...] = far, jnp.zeros((4, 4))
    store.ask.kernel[...] = store.address.kernel[...] = jnp.diag(jnp.asarray([1.0, 1.0, 1.0, 0.0]))
    store.gate.kernel[...], store.gate.bias[...] = jnp.zeros((4, 4)), jnp.full(4, 30.0)
    store.add.kernel[...] = jnp.zeros((4, 4)).at[3].set(jnp.arange(4.0))  # the value is the last number of z
    slots, keys, last = store.first(1), np.eye(3, 4), np.eye(4)[3]
    for number, key in enumerate(keys):
        slots = store.write(slots, jnp.asarray(key + number * last, jnp.float32)[None])

    def read(key):
        return store.read(slots, jnp.asarray(key, jnp.float32)[None])[0]

    for number, key in enumerate(keys):
        np.testing.assert_allclose(read(key), np.tanh(number * np.arange(4)), atol=1e-6)
    slots = store.write(slots, jnp.asarray(keys[1] - last, jnp.float32)[None])
    np.testing.assert_allclose(read(keys[1]), np.tanh(-np.arange(4)), atol=1e-6)
    np.testing.assert_allclose(read(keys[2]), np.tanh(2 * np.arange(4)), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["slots", "delta"])
def test_only_the_memory_reaches_past_the_window(store):
    """One layer that sees one token: with the memory replaced, nothing of earlier tokens is left."""
    spec = Memory(width=8, heads=2, hidden=8, slots=3, store=store, window=1)
    module = spec.build(None, Shape(8, 0, 4, 7), jax.random.key(0))
    seen = Collect("memory")
    module(X, np.arange(7), tap=seen)
    assert seen["memory"][0].shape == ((2, 7, 3, 8) if store == "slots" else (2, 7, 2, 4, 4))
    none = Tap(lambda depth, kind, value: jnp.zeros_like(value), "memory")
    jacobian = jax.jit(jax.jacrev(lambda x: module(x[None], np.asarray([4]), tap=none)[0]))(X[0])
    size_T = np.abs(np.asarray(jacobian)).sum(axis=(0, 1, 3))
    np.testing.assert_array_equal(size_T > 0, np.arange(7) == 4)

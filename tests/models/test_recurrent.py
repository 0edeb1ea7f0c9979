"""Recurrent and state-space layers against their recurrences in plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models.small import FEATURES, LENGTH, OUTCOMES
from windtunnel.models import Gru, Lstm, Shape, Ssm, parameters, recurrent, ssd, ssm

AT = np.arange(LENGTH)
SHAPE = Shape(FEATURES, 0, OUTCOMES, LENGTH)


# Recurrent layers, against flax's own cells step by step.


def test_gru_is_the_published_cell():
    layer = recurrent.Gru(Gru(width=8), nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(2), (2, LENGTH, 8))
    layer.input.bias[...] = jax.random.normal(jax.random.key(3), (24,))
    cell = nnx.GRUCell(8, 8, rngs=nnx.Rngs(1))
    cell.dense_i.kernel[...], cell.dense_i.bias[...] = layer.input.kernel[...], layer.input.bias[...]
    cell.dense_h.kernel[...] = layer.recurrent.kernel[...]
    close_to_the_cell(layer, cell, jnp.zeros((2, 8)), x)


def test_lstm_is_the_published_cell_with_one_more_in_the_gate_of_forgetting():
    layer = recurrent.Lstm(Lstm(width=8), nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(2), (2, LENGTH, 8))
    bias = jax.random.normal(jax.random.key(3), (32,))
    layer.input.bias[...] = bias
    cell = nnx.LSTMCell(8, 8, rngs=nnx.Rngs(1))
    for i, gate in enumerate("ifgo"):
        part = slice(8 * i, 8 * i + 8)
        getattr(cell, "if_" if gate == "f" else f"i{gate}").kernel[...] = layer.input.kernel[:, part]
        getattr(cell, f"h{gate}").kernel[...] = layer.recurrent.kernel[:, part]
        getattr(cell, f"h{gate}").bias[...] = bias[part] + (gate == "f")
    close_to_the_cell(layer, cell, (jnp.zeros((2, 8)), jnp.zeros((2, 8))), x)


def close_to_the_cell(layer, cell, carry, x):
    expected = []
    for t in range(LENGTH):
        carry, h = cell(carry, x[:, t])
        expected.append(h)
    np.testing.assert_allclose(
        layer(x, AT, None, lambda name, value: value), np.stack(expected, axis=1), rtol=1e-5, atol=1e-6
    )


# The state space, against its recurrence in plain loops.


def recurrence(delta, inward, write, read, a):
    """y and h, in plain loops."""
    (batch, length, channels), states = delta.shape, len(a)
    y, h = np.zeros(delta.shape), np.zeros((batch, length + 1, states, channels))
    for b, t, n, e in np.ndindex(batch, length, states, channels):
        h[b, t + 1, n, e] = np.exp(delta[b, t, e] * a[n, e]) * h[b, t, n, e] + inward[b, t, e] * write[b, t, n]
        y[b, t, e] += read[b, t, n] * h[b, t + 1, n, e]
    return y, h[:, 1:]


@pytest.mark.parametrize("chunk", [1, 3, ssm.CHUNK])  # 7 tokens: with 3, the last chunk is padded
def test_chunks_of_the_scan_are_the_recurrence(chunk):
    draw = np.random.default_rng(0).normal
    delta, inward = np.exp(draw(size=(2, LENGTH, 4))), draw(size=(2, LENGTH, 4))
    write, read, a = draw(size=(2, LENGTH, 3)), draw(size=(2, LENGTH, 3)), -np.exp(draw(size=(3, 4)))
    with jax.enable_x64(True):
        results = ssm.scan(*map(jnp.asarray, (delta, inward, write, read, a)), keep=True, chunk=chunk)
    for result, expected in zip(results, recurrence(delta, inward, write, read, a), strict=True):
        np.testing.assert_allclose(result, expected, atol=1e-12)


@pytest.mark.parametrize("chunk", [None, 4])  # none: what this machine takes
def test_states_are_in_memory_for_a_chunk_at_a_time(chunk):
    """Of the scan itself less than one float for each of T × E × N."""
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in [(1, 512, 4)] * 2 + [(1, 512, 64)] * 2 + [(64, 4)]]
    compiled = jax.jit(lambda *parts: ssm.scan(*parts, chunk=chunk)[0]).lower(*inputs).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * 512 * 4 * 64


def test_the_convolution_in_plain_loops():
    x, kernel = np.random.default_rng(0).normal(size=(2, 5, 3)), np.random.default_rng(1).normal(size=(4, 3))
    expected = [[sum(kernel[k] * x[b, t - k] for k in range(4) if t >= k) for t in range(5)] for b in range(2)]
    np.testing.assert_allclose(ssm.convolve(jnp.asarray(x), jnp.asarray(kernel)), expected, rtol=1e-5, atol=1e-6)


def test_channels_remember_from_ten_tokens_to_a_thousand():
    params = parameters(Ssm(layers=1, width=64, states=2).build(None, SHAPE, jax.random.key(0)))["layers"]["0"]
    delta = np.log1p(np.exp(params["delta_bias"]))
    assert 1e-3 <= delta.min() < 3e-3 and 3e-2 < delta.max() <= 1e-1
    np.testing.assert_allclose(np.exp(params["rate"]), np.broadcast_to([[1], [2]], (2, 128)), rtol=1e-6)


# Its dual, against its recurrence in plain loops.


@pytest.mark.parametrize("chunk", [1, 3, ssd.CHUNK])  # 7 tokens: with 3, the last chunk is padded
def test_chunks_of_the_dual_are_the_recurrence(chunk):
    draw = np.random.default_rng(0).normal
    log_decay, inward = -np.exp(draw(size=(2, LENGTH, 2))), draw(size=(2, LENGTH, 2, 4))
    write, read = draw(size=(2, LENGTH, 3)), draw(size=(2, LENGTH, 3))
    y, h = np.zeros(inward.shape), np.zeros((2, LENGTH + 1, 2, 3, 4))
    for b, t, head, n, e in np.ndindex(2, LENGTH, 2, 3, 4):
        decayed = np.exp(log_decay[b, t, head]) * h[b, t, head, n, e]
        h[b, t + 1, head, n, e] = decayed + write[b, t, n] * inward[b, t, head, e]
        y[b, t, head, e] += read[b, t, n] * h[b, t + 1, head, n, e]
    with jax.enable_x64(True):
        parts = tuple(map(jnp.asarray, (log_decay, inward, write, read)))
        np.testing.assert_allclose(ssd.read_out(*parts, chunk=chunk), y, atol=1e-12)
        np.testing.assert_allclose(ssd.states_of(*parts[:3]), h[:, 1:], atol=1e-12)


def test_what_has_decayed_to_nothing_has_finite_gradients():
    """Weights of later tokens are exp of large numbers before they are masked."""
    parts = jnp.full((1, LENGTH, 1), -200.0), *(jnp.ones((1, LENGTH, 1, 2)), *[jnp.ones((1, LENGTH, 3))] * 2)
    gradients = jax.grad(lambda *parts: ssd.read_out(*parts).sum(), argnums=(0, 1, 2, 3))(*parts)
    assert all(np.isfinite(gradient).all() for gradient in gradients)

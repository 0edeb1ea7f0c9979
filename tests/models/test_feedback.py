"""Feedback attention: in sequence, and all at once until it settles."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel.models import Depth, Feedback, Shape, parameters, with_parameters
from windtunnel.spec import arrays

SPEC = Feedback(layers=2, heads=2, width=8, hidden=8, window=2)
SHAPE, AT = Shape(3, 0, 4, 7), np.arange(7)
INPUTS = jax.random.normal(jax.random.key(1), (2, 7, 3))


def built(spec=SPEC):
    return arrays(spec).build(None, SHAPE, jax.random.key(0))


def by_loops(module, inputs):
    """[T, V] of one sequence, in plain loops over tokens, layers, heads and lags."""
    params = jax.tree.map(np.asarray, parameters(module))

    def norm(x, scale):
        return x / np.sqrt(np.mean(x**2) + 1e-6) * scale["scale"]

    def linear(layer, x):
        return x @ layer["kernel"] + layer.get("bias", 0)

    tops = [params["start"]] * SPEC.window
    logits = []
    for features in inputs:
        x = linear(params["embedding"], features)
        for number in range(SPEC.layers):
            layer = params["layers"][str(number)]
            q = linear(layer["query"], norm(x, layer["norm_attention"])).reshape(2, 4)
            context = np.zeros((2, 4))
            for head in range(2):
                seen = [norm(tops[-lag], params["norm_top"]) for lag in range(1, SPEC.window + 1)]
                keys = [linear(layer["key"], top).reshape(2, 4)[head] for top in seen]
                values = [linear(layer["value"], top).reshape(2, 4)[head] for top in seen]
                score = [q[head] @ key / 2 + layer["log_lag"][head, lag] for lag, key in enumerate(keys)]
                weight = np.exp(score) / np.exp(score).sum()
                context[head] = sum(w * value for w, value in zip(weight, values, strict=True))
            x = x + linear(layer["output"], context.reshape(-1))
            x = x + linear(layer["down"], np.asarray(jax.nn.gelu(linear(layer["up"], norm(x, layer["norm_mlp"])))))
        tops.append(x)
        logits.append(linear(params["head"], norm(x, params["norm"])))
    return np.stack(logits)


def test_in_sequence_it_is_the_recursion_in_plain_loops():
    module = built()
    np.testing.assert_allclose(module(INPUTS, AT)[0], by_loops(module, np.asarray(INPUTS[0])), atol=1e-5)


def test_all_at_once_it_settles_on_what_it_is_in_sequence():
    """After T iterations it is exactly there, whatever the parameters: each makes one more token right."""
    module = built()
    settled = with_parameters(built(replace(SPEC, depth=Depth(max_iterations=8, tolerance=0.0))), parameters(module))
    np.testing.assert_allclose(jax.jit(lambda x: settled(x, AT))(INPUTS), module(INPUTS, AT), atol=1e-5)
    few = with_parameters(built(replace(SPEC, depth=Depth(max_iterations=3, tolerance=0.0))), parameters(module))
    logits = jax.jit(lambda x: few(x, AT))(INPUTS)
    np.testing.assert_allclose(logits[:, :3], module(INPUTS, AT)[:, :3], atol=1e-5)
    assert not np.allclose(logits[:, 3:], module(INPUTS, AT)[:, 3:], atol=1e-3)


@pytest.mark.slow
def test_training_supervises_every_number_of_iterations():
    """Each place is read after a number of its own; the gradient is finite."""
    spec = replace(SPEC, loops=3, depth=Depth(max_iterations=3, tolerance=0.0))
    module = built(spec)
    counts = []
    for n in (1, 2, 3):
        fixed = with_parameters(built(replace(spec, depth=Depth(max_iterations=n, tolerance=0.0))), parameters(module))
        counts.append(jax.jit(lambda x, fixed=fixed: fixed(x, AT))(INPUTS))
    train = jax.jit(lambda params, key: with_parameters(module, params)(INPUTS, AT, key=key))
    used = []
    for seed in range(4):
        logits = train(parameters(module), jax.random.key(seed))
        close = np.asarray([np.abs(logits - one).max(axis=(0, 2)) < 1e-5 for one in counts])  # [n, P]
        assert close.any(axis=0).all(), "every place is at one of the numbers"
        used += [int(np.argmax(close[:, p])) for p in range(4, 7)]  # where the numbers differ
    assert set(used) == {0, 1, 2}
    gradient = jax.grad(lambda params: jnp.sum(train(params, jax.random.key(0)) ** 2))(parameters(module))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))

"""Adaptive depth: who stops when, and that nobody else matters, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel.models import Depth, Feedback, Shape, Transformer, blocks
from windtunnel.models.depth import settle
from windtunnel.models.position import Alibi
from windtunnel.models.score import Score
from windtunnel.models.tap import Collect
from windtunnel.spec import arrays

TOKENS, DEPTH = 6, Depth(max_iterations=30, tolerance=1e-4)
SHAPE, AT = Shape(3, 0, 4, TOKENS), np.arange(TOKENS)
INPUTS = jax.random.normal(jax.random.key(1), (2, TOKENS, 3))
MODELS = {
    "transformer": Transformer(layers=1, heads=2, width=8, hidden=8, depth=DEPTH),
    "feedback": Feedback(layers=1, heads=2, width=8, hidden=8, window=2, depth=DEPTH),
}


def drawn(seed):
    """A causal map with a fixed point that late tokens reach later, and its features [B, T, V]."""
    draw = np.random.default_rng(seed)
    return draw.normal(size=(2, TOKENS, 3)), 0.6 * draw.normal(size=(3, 3))


def iterate(state, features, mixing):
    """s_t ← tanh(x_t + ½ (s_t + s_{t−1}) W)."""
    before = jnp.pad(state, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    return jnp.tanh(features + (state + before) @ mixing / 2)


def by_loops(features, mixing, most, tolerance):
    """The same in plain loops: (states, iterations, residuals, settled) of one sequence."""
    state, log_q = np.zeros((TOKENS, 3)), np.full((TOKENS, 3), -np.log(3))
    used, residual, settled = np.zeros(TOKENS, int), np.full(TOKENS, np.inf), np.zeros(TOKENS, bool)
    stopped = np.zeros(TOKENS, bool)
    for n in range(1, most + 1):
        if stopped.all():
            break
        old, ready = state.copy(), stopped.copy()
        for t in range(TOKENS):
            if stopped[t]:
                continue
            state[t] = np.tanh(features[t] + (old[t] + (old[t - 1] if t else 0)) @ mixing / 2)
            new = state[t] - np.log(np.exp(state[t]).sum())
            residual[t] = np.inf if n == 1 else max(0.0, np.sum(np.exp(new) * (new - log_q[t]))) / np.log(2)
            log_q[t], used[t], settled[t] = new, n, residual[t] < tolerance
            ready[t] = settled[t]
        for t in range(TOKENS):
            stopped[t] = ready[: t + 1].all()
    return state, used, residual, settled


@pytest.mark.parametrize("most", [1, 4, 100])
def test_a_token_stops_when_it_and_all_before_it_have_settled(most):
    features, mixing = drawn(0)
    with jax.enable_x64(True):
        x, w = jnp.asarray(features), jnp.asarray(mixing)
        depth = arrays(Depth(max_iterations=most, tolerance=1e-4))
        state, iterations = settle(lambda s: iterate(s, x, w), lambda s: s, jnp.zeros_like(x), depth)
    for b in range(2):
        expected_state, used, residual, settled = by_loops(features[b], mixing, most, 1e-4)
        np.testing.assert_allclose(state[b], expected_state, atol=1e-12)
        np.testing.assert_array_equal(iterations.used_BP[b], used)
        np.testing.assert_allclose(iterations.residual_BP[b], residual, rtol=1e-6)
        np.testing.assert_array_equal(iterations.settled_BP[b], settled)
        assert (np.diff(used) >= 0).all(), "none stops before an earlier one"
    if most == 100:
        assert len(np.unique(iterations.used_BP)) > 3 and iterations.settled_BP.all()


def test_nobody_waits_for_what_is_no_number():
    """In a pack on an accelerator the loop goes on until the slowest study ends: one that holds a NaN is none."""
    features, mixing = drawn(0)
    x = jnp.stack([jnp.asarray(features, jnp.float32), jnp.full(features.shape, jnp.nan)])

    def one(x):
        return settle(lambda s: iterate(s, x, jnp.asarray(mixing)), lambda s: s, jnp.zeros_like(x), arrays(DEPTH))[1]

    pack, alone = jax.vmap(one)(x), one(x[0])
    assert (pack.used_BP[1] == 1).all() and not pack.settled_BP[1].any() and np.isnan(pack.residual_BP[1]).all()
    np.testing.assert_array_equal(pack.used_BP[0], alone.used_BP)
    assert alone.settled_BP.all()


@pytest.fixture(params=MODELS, scope="module")
def compiled(request):
    """(logits [B, T, V], iterations [B, T]) of inputs, compiled once."""
    spec = arrays(MODELS[request.param])
    module = spec.build(Alibi() if request.param == "transformer" else None, SHAPE, jax.random.key(0))

    def look(x):
        seen = Collect("iterations")
        return module(x, AT, tap=seen), seen["iterations"][0]

    return jax.jit(look)


def test_neither_the_tail_nor_the_rest_of_a_batch_changes_a_bit(compiled):
    logits, used = compiled(INPUTS)
    assert used.shape == (2, TOKENS) and (np.diff(used) >= 0).all() and used.max() > used.min()
    other_tail, used_tail = compiled(INPUTS.at[:, 4:].multiply(30.0))
    np.testing.assert_array_equal(other_tail[:, :4], logits[:, :4])
    np.testing.assert_array_equal(used_tail[:, :4], used[:, :4])
    other_example, used_example = compiled(INPUTS.at[1].multiply(30.0))
    np.testing.assert_array_equal(other_example[0], logits[0])
    np.testing.assert_array_equal(used_example[0], used[0])
    assert (used_tail != used).any() or (used_example != used).any(), "though others take another number"


def test_no_key_is_skipped_where_others_decide_what_is(monkeypatch):
    """In blocks, what may be skipped depends on the tail too: adaptive depth skips none."""
    monkeypatch.setattr(blocks, "CHUNK", 2)
    monkeypatch.setattr(blocks, "NEGLIGIBLE", 1e4)
    q, k, v = jax.random.normal(jax.random.key(2), (3, 1, 2, TOKENS, 4))
    other = q.at[:, :, 5].multiply(100.0)

    def before_the_tail(q, every):
        score = Score(Alibi(), {}, jnp.arange(TOKENS), None, 2, False, every)
        return jax.jit(lambda q: blocks.attend(q, k, v, AT, score)[0])(q)[:, :, :5]

    np.testing.assert_array_equal(before_the_tail(q, True), before_the_tail(other, True))
    assert (before_the_tail(q, False) != before_the_tail(other, False)).any()
    module = arrays(MODELS["transformer"]).build(Alibi(), SHAPE, jax.random.key(0))
    assert module.layers["0"].attention.every

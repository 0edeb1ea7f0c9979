"""Keys that stand for cells, and for nodes: exact where nothing is lost, and off as they say where something is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.approximate import ALL, HASTE, HEADS, HEAVY, LENGTH, WIDTH, chunked, scored, tensors
from windtunnel.models import cells, nodes, score
from windtunnel.models.position import Uniform

qkv = pytest.fixture(tensors)
small_chunks = pytest.fixture(autouse=True)(chunked)


@pytest.mark.slow
def test_cells_of_keys_that_take_few_values_are_exact_and_the_gap_is_a_kl(qkv):
    """Four values of keys, four cells: no loss. With two cells, log Z − log Z̃ is KL(α̃ ‖ α) of every query."""
    q, _, v = qkv
    values = jax.random.normal(jax.random.key(5), (HEADS, 4, WIDTH))
    which_T = jax.random.randint(jax.random.key(6), (LENGTH,), 0, 4)
    k = jnp.broadcast_to(values[None, :, which_T], q.shape)
    own = scored(Uniform())

    @functools.partial(jax.jit, static_argnums=0, compiler_options=HASTE)
    def answer(count, v, sharper=1.0):
        book = cells.fitted(q, k[..., ::-1, :], count, 20, 1e-3)
        return cells.attend(sharper * q, k, v, ALL, own, book)

    log_alpha = jax.nn.log_softmax(score.scores(q, k, ALL, own), axis=-1)
    log_z = jax.nn.logsumexp(score.scores(q, k, ALL, own), axis=-1)
    full = answer(4, v)
    np.testing.assert_allclose(full.context_BNQd, jnp.exp(log_alpha) @ v, atol=1e-5)
    np.testing.assert_allclose(full.log_evidence_BNQ, log_z, atol=1e-5)
    tokens = jnp.broadcast_to(jnp.eye(LENGTH), (*q.shape[:2], LENGTH, LENGTH))  # the context is α̃ itself
    few = answer(2, tokens)
    alpha = np.asarray(few.context_BNQd, np.float64)
    kl = np.where(alpha > 0, alpha * (np.log(np.maximum(alpha, 1e-30)) - np.maximum(log_alpha, -1e9)), 0).sum(-1)
    gap = np.asarray(log_z - few.log_evidence_BNQ)
    assert gap.max() > 0.05
    np.testing.assert_allclose(gap, kl, atol=1e-4)
    assert (1 - np.exp(-gap.max(axis=(1, 2))) <= few.certificates["mass_bound"] + 1e-6).all()
    assert (few.certificates["mass_bound"] < 1).all() and (full.certificates["mass_bound"] < 1e-3).all()
    assert (answer(2, tokens, 1e3).certificates["mass_bound"] == 1).all(), "vacuous, and a number"


@pytest.mark.parametrize("position", [HEAVY, pytest.param(Uniform(), marks=pytest.mark.slow)])
def test_nodes_at_full_resolution_are_exact_and_coarse_ones_are_not(qkv, position):
    own = scored(position)
    exact = jax.nn.softmax(score.scores(qkv[0], qkv[1], ALL, own), axis=-1) @ qkv[2]
    keys = jax.nn.logsumexp(score.scores(qkv[0], qkv[1], ALL, own), axis=-1)
    for near, fanout in ((6, 2), (1, 3), (1, 2)):  # of 6 blocks: all near, two levels, three

        @functools.partial(jax.jit, compiler_options=HASTE)
        def answer(q, k, v, near=near, fanout=fanout):
            return nodes.attend(q, k, v, ALL, own, near, fanout)

        got = answer(*qkv)
        worst = np.abs(got.context_BNQd - exact).max()
        assert worst < 1e-6 if near == 6 else worst > 0.05
        level = answer(0 * qkv[0], *qkv[1:])  # without content a node has its prior mass, and nothing is lost
        log_z = jax.nn.logsumexp(score.scores(0 * qkv[0], qkv[1], ALL, own), axis=-1)
        np.testing.assert_allclose(level.log_evidence_BNQ, log_z, atol=1e-5)
        if not position.has_bias:  # and a mean of values is a mean of means
            mean = jnp.cumsum(qkv[2], axis=2) / (1 + jnp.arange(LENGTH))[:, None]
            np.testing.assert_allclose(level.context_BNQd, mean, atol=1e-5)
        assert near != 6 or np.abs(got.log_evidence_BNQ - keys).max() < 1e-5

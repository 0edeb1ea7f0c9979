"""Attention in blocks: the same as written out in plain loops, and only what provably cannot matter is skipped."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel.models import blocks, score
from windtunnel.models.fused import fused, refusal
from windtunnel.models.position import Bam, Fire, Gaussian, GeneralizedGaussian, Rope, Uniform
from windtunnel.spec import arrays

HEADS, LENGTH, WIDTH, CHUNK = 2, 53, 4, 8  # 7 blocks of keys, the last not full
ALL = np.arange(LENGTH)
SHORT = Gaussian(scale=2.0)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(blocks, "CHUNK", CHUNK)


@pytest.fixture
def qkv():
    return jax.random.normal(jax.random.key(0), (3, 2, HEADS, LENGTH, WIDTH))


def random_score(position, softmax="plain"):
    position = arrays(position)
    learned = position.parameters(jax.random.key(1), HEADS, 8, 16)
    sharpness_N = None if softmax == "plain" else jnp.asarray([0.3, 0.7])
    positions_T = position.positions(None, LENGTH)
    return score.Score(position, learned, positions_T, sharpness_N, HEADS, softmax == "scalable_inside")


def attended(q, k, v, rows, scored):
    """[B, N, Q, d] and how it was computed. Compiled: outside of a program every loop would be, at each call."""
    return jax.jit(lambda q, k, v: blocks.attend(scored.sharpened(q[:, :, rows], rows), k, v, rows, scored))(q, k, v)


def in_loops(q, k, v, rows, scored):
    """The same, a query and a key at a time, in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    log_p = scored.position.bias(scored.learned, HEADS, scored.positions_T, scored.positions_T)
    log_p = np.broadcast_to(0.0 if log_p is None else np.asarray(log_p, np.float64), (HEADS, LENGTH, LENGTH))
    out = np.zeros((len(q), HEADS, len(rows), WIDTH))
    for b, n, (at, i) in [(b, n, pair) for b in range(len(q)) for n in range(HEADS) for pair in enumerate(rows)]:
        f = 1.0 if scored.sharpness_N is None else float(scored.sharpness_N[n]) * math.log(i + 1)
        g = f if scored.inside else 1.0
        of_keys = [f * q[b, n, i] @ k[b, n, j] / math.sqrt(WIDTH) + g * log_p[n, i, j] for j in range(i + 1)]
        top = max(of_keys)
        weights = [math.exp(score - top) for score in of_keys]
        out[b, n, at] = sum(weight * v[b, n, j] for j, weight in enumerate(weights)) / sum(weights)
    return out


@pytest.mark.parametrize(
    ("position", "softmax", "skips"),
    [
        (Uniform(), "plain", False),
        (Rope(), "scalable_outside", False),
        (Bam(start="uniform"), "plain", False),
        (GeneralizedGaussian(scale=3.0, beta=0.5), "plain", False),
        (Fire(), "plain", False),  # knows more than distance: no table
        (SHORT, "plain", True),
        (SHORT, "scalable_outside", True),
        (SHORT, "scalable_inside", True),
    ],
)
def test_agrees_with_plain_loops_and_skips_where_the_prior_falls(qkv, position, softmax, skips):
    scored = random_score(position, softmax)
    context, reading = attended(*qkv, ALL, scored)
    np.testing.assert_allclose(context, in_loops(*qkv, ALL, scored), atol=1e-5)
    assert reading.kernel == "blocked"
    assert (reading.skipped_B > 0.3).all() if skips else (reading.skipped_B == 0).all()
    assert (reading.mass_B <= blocks.NEGLIGIBLE).all()


def test_some_queries_are_as_all(qkv):
    for position in (SHORT, Fire()):
        scored, rows = random_score(position), np.asarray([0, 1, 7, 8, 9, 20, 22, 31, 40, 41, 52])
        context, _ = attended(*qkv, rows, scored)
        np.testing.assert_allclose(context, in_loops(*qkv, rows, scored), atol=1e-5)


def test_a_far_key_that_outweighs_the_prior_is_read(qkv):
    """The first key is so long that the last query takes it, (52/2)² nats of prior notwithstanding."""
    q, k, v = qkv
    last = q[:, :, -1]
    k = k.at[:, :, 0].set(last * 3 * 26**2 / jnp.sum(jnp.square(last), axis=-1, keepdims=True))
    scored = random_score(SHORT)
    context, reading = attended(q, k, v, ALL, scored)
    np.testing.assert_allclose(context[:, :, -1], v[:, :, 0], atol=1e-5)
    np.testing.assert_allclose(context, in_loops(q, k, v, ALL, scored), atol=1e-5)
    _, ordinary = attended(*qkv, ALL, scored)
    assert (reading.skipped_B < ordinary.skipped_B).all()


def test_what_is_skipped_holds_no_more_than_the_bound_says(qkv, monkeypatch):
    """With a tolerance of 1 % the bound is put to use: the mass of what is skipped, from all the scores."""
    monkeypatch.setattr(blocks, "NEGLIGIBLE", 0.01)
    scored = random_score(GeneralizedGaussian(scale=2.0, beta=1.0))
    q, k, _ = 0.2 * qkv
    ones_from_here = jnp.tril(jnp.ones((LENGTH, LENGTH)))  # v_j = 1 up to dimension j: context = cumulative mass
    v = jnp.broadcast_to(ones_from_here, (2, HEADS, LENGTH, LENGTH))
    context, reading = attended(q, k, v, ALL, scored)
    exact = jax.nn.softmax(score.scores(q, k, ALL, scored), axis=-1) @ v
    lost = np.abs(np.asarray(context - exact)).max()
    assert (reading.skipped_B > 0).all() and lost > 1e-6, "else this says nothing"
    assert lost <= reading.mass_B.max() <= 0.01


def test_no_query_depends_on_a_later_token(qkv):
    changed = qkv.at[:, :, :, 30:].add(1.0)
    for position in (Uniform(), SHORT):
        before, after = (attended(*tensors, ALL, random_score(position))[0] for tensors in (qkv, changed))
        np.testing.assert_array_equal(before[:, :, :30], after[:, :, :30])
        assert (before[:, :, 30:] != after[:, :, 30:]).all()


def test_gradients_are_those_of_the_softmax_as_written(qkv):
    def blocked(q, k, v, scored):
        return jnp.sum(jnp.sin(blocks.attend(q, k, v, ALL, scored)[0]))

    def written(q, k, v, scored):
        return jnp.sum(jnp.sin(jax.nn.softmax(score.scores(q, k, ALL, scored), axis=-1) @ v))

    def gradients(function):
        def of(q, k, v, log_scale):
            scored = random_score(GeneralizedGaussian(scale=3.0))
            scored.learned["log_scale"] = log_scale
            return function(q, k, v, scored)

        return jax.jit(jax.grad(of, argnums=(0, 1, 2, 3)))(*qkv, jnp.asarray([0.5, 1.5]))

    for ours, expected in zip(gradients(blocked), gradients(written), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)
        assert np.abs(expected).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("position", [Uniform(), SHORT])
def test_memory_is_linear_in_the_length(position, monkeypatch):
    monkeypatch.setattr(blocks, "CHUNK", 64)

    def temporary(length):
        scored = random_score(position)
        x, at = jax.ShapeDtypeStruct((1, HEADS, length, WIDTH), jnp.float32), np.arange(length)
        scored = score.Score(scored.position, scored.learned, jnp.arange(length), None, HEADS, False)
        program = jax.jit(lambda q, k, v: blocks.attend(q, k, v, at, scored)[0])
        return program.lower(x, x, x).compile().memory_analysis().temp_size_in_bytes

    assert temporary(8192) < 2.3 * temporary(4096)


@pytest.mark.parametrize(
    ("backend", "dtype", "queries", "keys", "prior", "message"),
    [
        ("gpu", "bfloat16", (1, 2, 64, 32), 64, True, None),
        ("gpu", "float16", (1, 2, 4096, 32), 4096, False, None),
        ("cpu", "bfloat16", (1, 2, 64, 32), 64, True, "none on cpu"),
        ("gpu", "float32", (1, 2, 64, 32), 64, True, "half precision, not float32"),
        ("gpu", "bfloat16", (1, 2, 64, 20), 64, True, "heads of 8, 16"),
        ("gpu", "bfloat16", (1, 2, 9, 32), 64, True, "all queries"),
        ("gpu", "bfloat16", (1, 2, 4096, 32), 4096, True, "a prior over at most 512 tokens"),
    ],
)
def test_the_fused_kernel_is_used_where_it_supports_what_is_asked(backend, dtype, queries, keys, prior, message):
    refused = refusal(backend, jnp.dtype(dtype), queries, keys, prior, 512)
    assert refused is None if message is None else message in refused


def test_on_a_gpu_the_record_says_why_attention_is_not_fused(qkv, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    _, reading = attended(*qkv, ALL, random_score(Uniform()))
    assert reading.kernel == "blocked (not fused: it takes half precision, not float32)"


@pytest.mark.parametrize(("position", "softmax"), [(Uniform(), "plain"), (SHORT, "scalable_inside")])
def test_the_call_of_the_fused_kernel_means_the_same(qkv, position, softmax):
    """The same call, but to the implementation that runs anywhere."""
    scored = random_score(position, softmax)
    q, k, v = qkv
    context = jax.jit(lambda q: fused(scored.sharpened(q, ALL), k, v, scored, implementation="xla"))(q)
    np.testing.assert_allclose(context, in_loops(q, k, v, ALL, scored), atol=1e-5)

"""Positional priors against their formulas, written out as plain loops."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.small import POSITIONS
from windtunnel.models.position import (
    EPSILON,
    Alibi,
    Bam,
    GeneralizedGaussian,
    Learned,
    PerLayer,
    Rope,
    Uniform,
    alibi_slopes,
)
from windtunnel.spec import arrays

HEADS, QUERIES, KEYS = 2, np.asarray([0, 5, 300]), np.asarray([0, 3, 5, 299])
SLOPES = (2**-4, 2**-8)  # of two heads


def bias(position):
    made = arrays(position)
    learned = made.parameters(jax.random.key(0), HEADS, 8, 16)
    return made.bias(learned, HEADS, jnp.asarray(QUERIES), jnp.asarray(KEYS))


def formula(log_density):
    """[N, Q, K] of log_density(head, distance)."""
    return np.array([[[log_density(n, abs(int(q) - int(k))) for k in KEYS] for q in QUERIES] for n in range(HEADS)])


@pytest.mark.parametrize(
    ("position", "log_density"),
    [
        (Alibi(), lambda n, d: -SLOPES[n] * d),
        (GeneralizedGaussian(scale=3.0, beta=0.5), lambda n, d: -math.sqrt(d / 3)),
        (GeneralizedGaussian(scale=3.0, beta=2.0, learn=False), lambda n, d: -((d / 3) ** 2)),
        (Bam(start="alibi"), lambda n, d: -SLOPES[n] * (d + EPSILON)),
        (Bam(start="uniform"), lambda n, d: -1.0),
    ],
)
def test_bias_is_the_log_prior(position, log_density):
    expected = formula(log_density)
    np.testing.assert_allclose(np.broadcast_to(bias(position), expected.shape), expected, rtol=1e-5, atol=1e-6)


def test_published_alibi_slopes():
    np.testing.assert_allclose(alibi_slopes(8), [2.0**-i for i in range(1, 9)])


@pytest.mark.parametrize("position", [Uniform(), Learned(), Rope()])
def test_no_log_prior(position):
    assert bias(position) is None


def test_scores_under_rope_depend_on_distance_and_turn_by_the_published_angles():
    rope = arrays(Rope(base=100.0))
    q, k = jax.random.normal(jax.random.key(0), (2, 4))

    def turned(x, at):
        return rope.rotate({}, x[None, None, None], jnp.asarray([at]))[0, 0, 0]

    near, far = (turned(q, i) @ turned(k, i - 3) for i in (5, 1000))
    assert float(near) == pytest.approx(float(far), abs=1e-4)
    # The first half of a vector is the real part, the second the imaginary: pair i turns by at × base^(−2i/d).
    z = complex(q[1], q[3]) * np.exp(1j * 7 * 100.0 ** (-2 * 1 / 4))
    np.testing.assert_allclose(turned(q, 7)[jnp.asarray([1, 3])], [z.real, z.imag], rtol=1e-5)


@pytest.mark.parametrize(
    ("past", "expected"), [("clip", [1, 2, 3, 3, 3]), ("wrap", [1, 2, 3, 1, 2]), ("zero", [1, 2, 3, 0, 0])]
)
def test_learned_positions_past_their_table_do_what_the_record_says(past, expected):
    learned = {"table": jnp.asarray([[1.0], [2.0], [3.0]])}
    np.testing.assert_array_equal(Learned(past=past).embed(learned, jnp.arange(5))[:, 0], expected)


def test_a_table_is_as_long_as_the_horizon_or_as_asked():
    for length, expected in ((None, 16), (5, 5)):
        assert Learned(length=length).parameters(jax.random.key(0), HEADS, 8, 16)["table"].shape == (expected, 8)


def test_gradients_are_finite_at_distance_zero():
    """|d|^β has none at d = 0, and every token is at distance 0 from itself."""
    at = jnp.arange(4)
    for position in POSITIONS.values():
        made = arrays(position)
        for one in made.layers if isinstance(made, PerLayer) else (made,):
            learned = one.parameters(jax.random.key(0), HEADS, 8, 16)

            def total(learned, one=one):
                prior = one.bias(learned, HEADS, at, at)
                return jnp.zeros(()) if prior is None else jnp.sum(prior)

            assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.grad(total)(learned)))

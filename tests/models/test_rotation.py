"""Positions that turn queries and keys, against the published angles."""

import cmath
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.small import FEATURES, built
from windtunnel.models.position import Rope, Xpos
from windtunnel.spec import arrays

WIDTH, LENGTH = 8, 16


def random_pair(width):
    return (np.asarray(x) for x in jax.random.normal(jax.random.key(0), (2, width)))


def turned(position, x, at, length, keys=False, trained=LENGTH):
    """[d]: x as a query, or as a key, at one token of `length`."""
    position = arrays(position).bound(WIDTH, trained)
    rotate = position.rotate_keys if keys else position.rotate
    return rotate({}, jnp.asarray(x)[None, None, None], position.positions(None, length)[at : at + 1])[0, 0, 0]


def complex_pairs(x):
    """The first half of a vector is the real part, the second the imaginary."""
    half = len(x) // 2
    return [complex(x[i], x[i + half]) for i in range(half)]


def test_scores_under_rope_depend_on_distance():
    q, k = random_pair(4)
    near, far = (
        turned(Rope(base=100.0), q, i, 1100) @ turned(Rope(base=100.0), k, i - 3, 1100, keys=True) for i in (5, 1000)
    )
    assert float(near) == pytest.approx(float(far), abs=1e-4)


@pytest.mark.parametrize("scaling", ["none", "interpolation", "ntk", "yarn"])
@pytest.mark.parametrize("s", [1, 4])
def test_rope_turns_by_the_published_angles(scaling, s):
    """Within 1,024 tokens the four pairs turn 163, 16, 1.6 and 0.2 times: above YaRN's ramp, on it and below it."""
    width, base, trained, at = 8, 10_000.0, 1024, 700
    x, _ = random_pair(width)
    computed = complex_pairs(turned(Rope(base=base, scaling=scaling), x, at, s * trained, trained=trained))
    for i, z in enumerate(complex_pairs(x)):
        theta = base ** (-2 * i / width)
        if scaling == "interpolation":
            theta /= s
        elif scaling == "ntk":
            theta = (base * s ** (width / (width - 2))) ** (-2 * i / width)
        elif scaling == "yarn":
            turns = trained * theta / (2 * math.pi)
            gamma = min(1, max(0, (turns - 1) / 31))
            theta = (1 - gamma) * theta / s + gamma * theta
            z *= 0.1 * math.log(s) + 1
        assert computed[i] == pytest.approx(z * cmath.exp(1j * at * theta), rel=1e-3)


def test_scaling_is_for_lengths_past_the_trained_one():
    inputs = jax.random.normal(jax.random.key(1), (1, 14, FEATURES))

    def called(module):
        """On 7 tokens and on 14."""
        return jax.jit(lambda x: [module(x[:, :length], np.arange(length)) for length in (7, 14)])(inputs)

    plain, expected = built(Rope(base=5.0), layers=1)
    *short, long = called(plain)
    for scaling in ("interpolation", "ntk", "yarn"):
        scaled, params = built(Rope(base=5.0, scaling=scaling), layers=1)
        assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), params, expected))
        *same, other = called(scaled)
        for logits, of_plain in zip(same, short, strict=True):
            np.testing.assert_allclose(logits, of_plain, atol=1e-6)
        assert not np.allclose(other, long, atol=1e-4)


def test_xpos_is_rope_with_a_decay_that_float32_holds():
    position = Xpos(scale=512.0)
    q, k = random_pair(8)
    assert position.conflict(8, 65_536) is None and position.conflict(8, 65_537)
    for i, j in ((0, 0), (3, 1), (65_535, 65_535), (65_535, 65_000), (40_000, 30_000)):
        expected = 0
        for pair, (z, w) in enumerate(zip(complex_pairs(q), complex_pairs(k), strict=True)):
            turn = cmath.exp(1j * (i - j) * 10_000 ** (-2 * pair / 8))
            expected += (z * turn * w.conjugate()).real * ((2 * pair / 8 + 0.4) / 1.4) ** ((i - j) / 512)
        computed = float(turned(position, q, i, 65_536) @ turned(position, k, j, 65_536, keys=True))
        assert computed == pytest.approx(expected, rel=0.02, abs=0.02)  # angles of 32,000 radians, in float32

"""Entropies and divergences: by hand, by their laws, and the same from numpy and from JAX."""

import math

import jax
import numpy as np
import pytest

from windtunnel.information import entropy_bits, js_bits, kl, kl_bits, total_variation


def log(*probabilities):
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(probabilities, np.float64))


# p = (½, ½, 0) and q = (¼, ½, ¼): their mean is (⅜, ½, ⅛).
P, Q = log(0.5, 0.5, 0), log(0.25, 0.5, 0.25)


def test_by_hand():
    assert kl(P, Q) == pytest.approx(0.5 * math.log(2)) and kl_bits(P, Q) == pytest.approx(0.5)
    against_mean = 0.5 * math.log2(0.5 / 0.375), 0.25 * math.log2(0.25 / 0.375) + 0.25 * math.log2(0.25 / 0.125)
    assert js_bits(P, Q) == pytest.approx(sum(against_mean) / 2)
    assert entropy_bits(P) == pytest.approx(1) and entropy_bits(Q) == pytest.approx(1.5)
    assert total_variation(P, Q) == pytest.approx(0.25)


def test_at_the_edges():
    """Where p excludes what q allows nothing is added; the other way round KL is infinite, and only KL."""
    certain, other = log(1, 0), log(0, 1)
    assert kl_bits(certain, certain) == 0 and entropy_bits(certain) == 0
    assert kl_bits(P, P) == js_bits(P, P) == total_variation(P, P) == 0
    assert kl_bits(Q, P) == np.inf
    assert js_bits(certain, other) == pytest.approx(1) and total_variation(certain, other) == 1


@pytest.fixture(scope="module")
def pairs():
    """200 pairs of distributions over five outcomes; some outcomes of the first kind are impossible."""
    random = np.random.default_rng(0)
    p, q = random.dirichlet(np.ones(5), size=(2, 200))
    p[:60, 0] = 0
    return log(*(p / p.sum(-1, keepdims=True))), log(*q)


def test_laws(pairs):
    p, q = pairs
    assert (kl_bits(p, q) > 0).all() and (entropy_bits(p) <= math.log2(5)).all()
    np.testing.assert_allclose(js_bits(p, q), js_bits(q, p))
    assert (js_bits(p, q) <= 1).all()
    # Pinsker: TV² ≤ ½ KL, in nats.
    assert (total_variation(p, q) ** 2 <= kl(p, q) / 2).all()
    # Cross-entropy: H(p) + KL(p ‖ q) = −Σ p log₂ q.
    np.testing.assert_allclose(entropy_bits(p) + kl_bits(p, q), -(np.exp(p) * q).sum(-1) / math.log(2))


def test_numpy_and_jax_agree(pairs, x64):
    p, q = pairs
    np.testing.assert_allclose(jax.jit(kl)(p, q), kl(p, q), rtol=1e-12)


def test_gradients_are_finite_where_outcomes_are_impossible(pairs, x64):
    """That with respect to log q is −p."""
    p, q = pairs
    np.testing.assert_allclose(jax.grad(lambda q: kl(jax.numpy.asarray(p), q).sum())(q), -np.exp(p), atol=1e-12)

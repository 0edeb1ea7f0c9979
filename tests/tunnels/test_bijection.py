"""`bijection`, beyond what `verify` proves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel.spec import arrays
from windtunnel.tunnels import Batch, Bijection

pytestmark = pytest.mark.usefixtures("x64")


def entropies(tunnel, observations, sequences=50):
    """Entropy in bits [B, P] of the exact predictive, and which positions count."""

    @jax.jit
    def batch_and_predictive(tunnel):
        tables = tunnel.prepare(observations)
        batch = tunnel.sample(jax.random.key(0), tables, sequences, observations)
        return batch, tunnel.log_predictive(tables, batch, jnp.arange(observations))

    batch, log_p = batch_and_predictive(arrays(tunnel))
    p = np.exp(log_p)
    return batch, -np.where(p > 0, p * np.log2(np.where(p > 0, p, 1)), 0).sum(-1), np.asarray(batch.weight_BP) > 0


@pytest.mark.parametrize("symbols", [2, 20])
def test_entropy_is_what_the_paper_says(symbols):
    """H = log₂(V − k + 1) at pair k."""
    _, entropy, _ = entropies(Bijection(symbols=symbols), symbols)
    expected = np.broadcast_to(np.log2(symbols - np.arange(symbols)), entropy.shape)
    np.testing.assert_allclose(entropy, expected, atol=1e-9)


def test_with_replacement_entropy_is_no_function_of_position():
    batch, entropy, _ = entropies(Bijection(symbols=6, replacement=True), 12)
    keys = np.asarray(batch.inputs)[:, 0::2]
    for b in range(len(keys)):
        for t in range(12):
            seen = set(keys[b, :t])
            expected = 0.0 if keys[b, t] in seen else np.log2(6 - len(seen))
            assert entropy[b, t] == pytest.approx(expected, abs=1e-9)
    assert entropy[:, 4].std() > 0.5


def test_with_a_random_start_entropy_is_no_function_of_position():
    batch, entropy, counts = entropies(Bijection(symbols=6, random_start=True), 6)
    start = (np.asarray(batch.inputs)[:, 0::2] == 12).sum(1)
    assert set(start) == set(range(6)) and (counts.sum(1) == 6 - start).all()
    for b, first in enumerate(start):
        np.testing.assert_allclose(entropy[b, first:], np.log2(6 - np.arange(6 - first)), atol=1e-9)


def test_the_example_of_the_docstring():
    """V = 3, `2 4 0`: π(2) = 1, so π(0) is 0 or 2."""
    batch = Batch(jnp.asarray([[2, 4, 0]]), jnp.asarray([[1, 0]]), jnp.ones((1, 2)))
    tunnel = arrays(Bijection(symbols=3))
    log_p = jax.jit(lambda: tunnel.log_predictive(tunnel.prepare(2), batch, jnp.arange(2)))()
    np.testing.assert_allclose(np.exp(log_p[0]), [[1 / 3] * 3, [0.5, 0, 0.5]])


def test_a_pool_of_one_is_known_from_the_start():
    _, entropy, _ = entropies(Bijection(symbols=5, pool=1, replacement=True), 4)
    np.testing.assert_allclose(entropy, 0, atol=1e-12)

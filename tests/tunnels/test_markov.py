"""`markov`, beyond what `verify` proves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel.spec import arrays
from windtunnel.tunnels import Batch, Markov

pytestmark = pytest.mark.usefixtures("x64")


def sampled(tunnel, sequences, observations):
    """A batch, and the exact predictive at every observation."""

    @jax.jit
    def batch_and_predictive(tunnel):
        batch = tunnel.sample(jax.random.key(0), (), sequences, observations)
        return batch, tunnel.log_predictive((), batch, jnp.arange(observations))

    return batch_and_predictive(arrays(tunnel))


@pytest.mark.parametrize("order", [0, 2])
def test_the_sequence_has_the_dirichlet_multinomial_probability(order):
    """Π_t p(x_t | past) against scipy, row by row: its probability of the counts, over the orders that share them."""
    from scipy.stats import dirichlet_multinomial, multinomial

    k, a = 3, 0.7
    batch, log_p = sampled(Markov(symbols=k, order=order, concentration=a), 5, 60)
    for inputs, outcome, log_p_PV in zip(*map(np.asarray, (batch.inputs, batch.outcome_BP, log_p)), strict=True):
        sequence, count_Ck = [*inputs[1 : 1 + order], *outcome], np.zeros((k,) * (order + 1), int)
        for s in range(len(outcome)):
            count_Ck[tuple(sequence[s : s + order + 1])] += 1
        expected = 0.0
        for count_k in count_Ck.reshape(-1, k):
            orders = multinomial.logpmf(count_k, count_k.sum(), [1 / k] * k) + count_k.sum() * np.log(k)
            expected += dirichlet_multinomial.logpmf(count_k, [a] * k, count_k.sum()) - orders
        assert np.take_along_axis(log_p_PV, outcome[:, None], 1).sum() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("order", [1, 2])
def test_the_first_symbols_are_not_stationary(order):
    """A uniform start meets its own symbol again with E[θ²] = (a + 1) / (k (ka + 1)), twice in a row. From the
    stationary distribution it would be more: chains are where they stay.
    """
    k, a, sequences = 2, 0.5, 20_000
    batch, _ = sampled(Markov(symbols=k, order=order, concentration=a), sequences, 2)
    first, (second, third) = np.asarray(batch.inputs[:, 1]), np.asarray(batch.outcome_BP).T
    stays = (second == first) & (third == first) & (np.asarray(batch.inputs[:, order]) == first)
    expected = (a + 1) / (k * (k * a + 1)) / k ** (order - 1)  # all symbols of the context have to be the same
    assert stays.mean() == pytest.approx(expected, abs=5 * np.sqrt(expected / sequences))


@pytest.mark.slow
def test_after_32000_transitions_the_rows_are_known():
    """By a window's reasoner too, as well as its counts allow; in float32, where counts must not round."""
    k, order, n, w = 3, 2, 32_000, 4096
    row_Ck = np.random.default_rng(0).dirichlet([1.0] * k, k**order)
    at = np.arange(n - 50, n, dtype=np.int32)

    @jax.jit
    def predictives(tunnel, row_BCk, level_BP):
        symbol_BP = tunnel.chain(row_BCk, jnp.zeros(1, jnp.int32), level_BP)
        first_Bo = jnp.asarray([[k, *[0] * order]], jnp.int32)
        seen = jnp.asarray(at)
        batch = Batch(jnp.concatenate([first_Bo, symbol_BP[:, :-1]], axis=1), symbol_BP, jnp.ones((1, n)))
        return batch.inputs, tunnel.log_predictive((), batch, seen), tunnel.log_last((), batch, seen, w)

    with jax.enable_x64(False):
        level_BP = jax.random.uniform(jax.random.key(0), (1, n))
        knobs, row_BCk = arrays(Markov(symbols=k, order=order)), jnp.asarray(row_Ck[None], jnp.float32)
        inputs, *log_p = predictives(knobs, row_BCk, level_BP)
    symbols = np.asarray(inputs[0, 1:])
    context_T = symbols[:-1] * k + symbols[1:]
    context_P, visits_C = context_T[at], np.bincount(context_T)
    for log_p_BPV, share in zip(log_p, (1.0, w / n), strict=True):
        p_PV = np.exp(log_p_BPV[0])
        assert np.isfinite(log_p_BPV).all()
        np.testing.assert_allclose(p_PV.sum(-1), 1, atol=1e-6)
        error_PV = np.abs(p_PV - row_Ck[context_P]) * np.sqrt(share * visits_C[context_P])[:, None]
        assert error_PV.max() < 5 / 2, "five times the largest standard deviation that a share can have, ½ / √visits"


def test_the_example_of_the_docstring():
    """k = 2, a = 1, `0 1 0 0`: 0 was followed by 1 and by 0. The last transition alone was 0→0."""
    tunnel = arrays(Markov(symbols=2))
    batch = Batch(jnp.asarray([[2, 0, 1, 0, 0]]), jnp.asarray([[1, 0, 0, 0]]), jnp.ones((1, 4)))
    every = jnp.arange(4)
    whole, last = jax.jit(lambda: (tunnel.log_predictive((), batch, every), tunnel.log_last((), batch, every, 1)))()
    np.testing.assert_allclose(np.exp(whole[0, 3]), [1 / 2, 1 / 2])
    np.testing.assert_allclose(np.exp(last[0, 3]), [2 / 3, 1 / 3])


def test_of_order_0_it_is_a_die():
    """p(c) = (a + n(c)) / (ka + n), by counting; the start says what nothing seen yet says."""
    k, a = 4, 0.5
    batch, log_p = sampled(Markov(symbols=k, order=0, concentration=a), 3, 20)
    assert (np.asarray(batch.inputs[:, 0]) == k).all(), "a start, and no symbol before the first observation"
    np.testing.assert_array_equal(batch.inputs[:, 1:], batch.outcome_BP[:, :-1])
    for outcome, log_p_PV in zip(np.asarray(batch.outcome_BP), np.asarray(log_p), strict=True):
        for t, log_p_V in enumerate(log_p_PV):
            expected = (a + np.bincount(outcome[:t], minlength=k)) / (k * a + t)
            np.testing.assert_allclose(np.exp(log_p_V), expected, rtol=1e-12)

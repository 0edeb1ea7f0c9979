"""`recurrence`, beyond what `verify` proves."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import composed
from windtunnel.errors import BadInput
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch, Recurrence
from windtunnel.verify.brute import BRUTES

pytestmark = pytest.mark.usefixtures("x64")


def batch_of(symbols_BT):
    """Sequences as given, after a start; the last symbol is an outcome only."""
    symbols_BT = jnp.asarray(symbols_BT, jnp.int32)
    return Batch(
        jnp.pad(symbols_BT[:, :-1], ((0, 0), (1, 0)), constant_values=99),
        symbols_BT[:, 1:],
        jnp.ones(symbols_BT[:, 1:].shape),
    )


def test_every_sequence_in_every_window():
    """All 81 × 3 of five symbols of three, not only those that `verify` happens to draw."""
    tunnel, observations = Recurrence(modulus=3), 4
    every = list(itertools.product(range(3), repeat=observations + 1))
    batch = batch_of(every)
    for w in (0, 1, 2, 3, 4):
        last = jax.jit(lambda tunnel, w=w: tunnel.log_last(tunnel.prepare(4), batch, jnp.arange(4), w))
        predicted = np.exp(last(arrays(tunnel)))
        for b in range(0, len(every), 3):  # the last symbol is not seen
            brute = BRUTES["recurrence"](tunnel, np.asarray(batch.inputs[b]), every[b][1:])
            np.testing.assert_allclose(predicted[b, -1], brute.last(observations - 1, w), atol=1e-12)


def test_seventeen_symbols_agree_with_all_290_hypotheses_one_by_one():
    tunnel, every = Recurrence(modulus=17), jnp.arange(12)

    @jax.jit
    def three_answers(tunnel):
        tables = tunnel.prepare(12)
        batch = tunnel.sample(jax.random.key(0), tables, 40, 12)
        rules = [tunnel.log_predictive, tunnel.log_mixture, tunnel.log_posterior]
        return [rule(tables, batch, every) for rule in rules]

    log_p, log_mixture, log_posterior = three_answers(arrays(tunnel))
    np.testing.assert_allclose(np.exp(log_p), np.exp(log_mixture), atol=1e-12)
    chance_B = np.exp(log_posterior[:, -1, -1])
    assert set(np.round(chance_B, 6)) == {0.0, 1.0}, "by then the class is known, one way or the other"
    assert 5 < chance_B.sum() < 35


@pytest.mark.slow
def test_what_is_certain_stays_finite_for_32000_symbols():
    """A program that runs on makes chance p^(3−n) times as likely, which no float holds but its logarithm does;
    a single slip at the end makes chance certain.
    """
    p, n = 17, 32_000
    program = [1]
    while len(program) < n + 1:
        program.append((3 * program[-1] + 5) % p)
    slip = [*program[:-2], (program[-2] + 1) % p, 0]
    at = np.asarray([5000, n - 1], np.int32)

    @jax.jit
    def predictives(tunnel, batch):
        tables, seen = tunnel.prepare(n), jnp.asarray(at)
        return tunnel.log_predictive(tables, batch, seen), tunnel.log_last(tables, batch, seen, 300)

    with jax.enable_x64(False):
        whole, last = (np.asarray(x) for x in predictives(arrays(Recurrence(modulus=p)), batch_of([program, slip])))
    assert np.isfinite(whole).all() and np.isfinite(last).all()
    np.testing.assert_allclose(np.exp(whole).sum(-1), 1, atol=1e-5)
    assert (whole[0].argmax(-1) == np.asarray(program)[at + 1]).all()
    np.testing.assert_allclose(whole[0].min(-1), -math.log(p) * (at + 1 - 3 + 1), rtol=1e-5)  # at + 1 symbols
    np.testing.assert_allclose(last[0].min(-1), -math.log(p) * (301 - 3 + 1), rtol=1e-5)
    np.testing.assert_allclose(whole[1, 1], -math.log(p), rtol=1e-5)


def test_the_example_of_the_docstring():
    """p = 5: `0 1 3` leaves (2, 1) and chance, alike; after `0 1 3 2` the program is 5 times as likely."""
    tunnel = arrays(Recurrence(modulus=5))
    tables, batch, every = tunnel.prepare(4), batch_of([[0, 1, 3, 2, 0]]), jnp.arange(4)
    p_PV, posterior_PH = jax.jit(
        lambda: [np.e ** rule(tables, batch, every)[0] for rule in (tunnel.log_predictive, tunnel.log_posterior)]
    )()
    np.testing.assert_allclose(p_PV[:2], 1 / 5)
    np.testing.assert_allclose(p_PV[2], [0.1, 0.1, 0.6, 0.1, 0.1])
    np.testing.assert_allclose(p_PV[3], [5 / 6 + 1 / 30, *[1 / 30] * 4])
    np.testing.assert_allclose(posterior_PH[3, [2 * 5 + 1, -1]], [5 / 6, 1 / 6])


def test_only_primes_come_in():
    assert composed.study("tunnel=recurrence", "tunnel.hypotheses=290").tunnel.modulus == 17
    with pytest.raises(BadInput, match=r"tunnel\.modulus=16: should be a prime number"):
        composed.study("tunnel=recurrence", "tunnel.modulus=16")
    with pytest.raises(BadInput, match=r"tunnel\.hypotheses=257: .*the nearest: 170 and 290"):
        composed.study("tunnel=recurrence", "tunnel.hypotheses=257")

"""`mixture`, beyond what `verify` proves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel.compare import verdict
from windtunnel.information import kl_bits
from windtunnel.problem import Evaluate, Problem, exact_program
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch, Echo, Markov, Mixture, Recurrence, Urn

pytestmark = pytest.mark.usefixtures("x64")


@jax.jit
def log_p_of(tunnel, batch, at):
    tables = tunnel.prepare(batch.outcome_BP.shape[1])
    return tunnel.log_predictive(tables, batch, at), tunnel.log_posterior(tables, batch, at)


def drawn(tunnel, observations, sequences=200):
    tunnel_arrays = arrays(tunnel)

    @jax.jit
    def run(tunnel_arrays):
        batch = tunnel_arrays.sample(jax.random.key(0), tunnel_arrays.prepare(observations), sequences, observations)
        return batch, *log_p_of(tunnel_arrays, batch, jnp.arange(observations))

    return jax.tree.map(np.asarray, run(tunnel_arrays))


def test_the_example_of_the_docstring():
    """Chains of two and of four symbols: first 0 with ⅜, and then the small one is twice as likely."""
    tunnel = arrays(Mixture(domains=(Markov(symbols=2), Markov(symbols=4)), segment=None))
    batch = Batch(jnp.asarray([[4, 0, 1]]), jnp.asarray([[0, 1, 0]]), jnp.ones((1, 3)))
    log_p, log_posterior = log_p_of(tunnel, batch, jnp.arange(3))
    np.testing.assert_allclose(np.exp(log_p[0, 0]), [3 / 8, 3 / 8, 1 / 8, 1 / 8])
    np.testing.assert_allclose(np.exp(log_posterior[0, 1]), [2 / 3, 1 / 3])


def test_a_mark_names_the_domain_and_the_right_one():
    """Symbols 3 and 4 come from the larger domain alone, so marks can be checked against what is shown."""
    tunnel = Mixture(domains=(Markov(symbols=3), Recurrence(modulus=5)), marked=True, segment=6)
    batch, _, log_posterior = drawn(tunnel, 18)
    marks = batch.inputs[:, 0::6]
    assert set(marks.ravel()) == {6, 7}
    np.testing.assert_array_equal(
        np.argmax(log_posterior, -1).reshape(-1, 3, 6), np.repeat((marks - 6)[..., None], 6, 2)
    )
    large = (batch.outcome_BP.reshape(-1, 3, 6) > 2).any(-1)
    assert (marks[large] == 7).all() and large.any()


@pytest.mark.slow
def test_every_domain_is_judged_by_its_own_posterior():
    """In a mixture that is marked, each sequence counts in its own domain; unmarked, at first, in both alike."""
    for marked in (True, False):
        problem = Problem(
            tunnel=Mixture(domains=(Markov(symbols=3, order=0), Echo(symbols=3)), marked=marked),
            horizon=6, evaluate=Evaluate(examples=60),
        )  # fmt: skip
        exact = jax.tree.map(np.asarray, exact_program(arrays(problem)))
        log_q = exact.log_predictive.copy()
        echoes = exact.log_domains[:, -1, 1] > exact.log_domains[:, -1, 0]
        log_q[echoes] = -np.log(3)  # a model that knows nothing of echoes
        numbers, curves = verdict(problem, exact, log_q)
        die, echo = numbers["domains"]
        gap = kl_bits(exact.log_predictive, log_q)
        if marked:
            assert die["verdict"] != "fails in range" == echo["verdict"] and echo["critical_length"] is None
            assert die["kl_bits"] == pytest.approx(0) and echo["kl_bits"] == pytest.approx(gap[echoes].mean())
        else:
            assert 0 < die["kl_bits"] < echo["kl_bits"]
        assert curves["domain/1/kl_bits"].shape == curves["kl_bits"].shape and die["headroom_bits"] > 0


def test_every_segment_is_a_fresh_start():
    tunnel = Mixture(domains=(Markov(symbols=3, concentration=0.2), Urn()), segment=8)
    _, log_p, log_posterior = drawn(tunnel, 24)
    np.testing.assert_allclose(np.exp(log_posterior[:, 0::8]), 0.5)
    np.testing.assert_allclose(log_p[:, 8], log_p[:, 0])
    entropy = -(np.exp(log_posterior) * np.maximum(log_posterior, -1e30)).sum(-1).mean(0)
    assert entropy[7] < entropy[1] < entropy[0] and entropy[8] == pytest.approx(entropy[0])


def test_a_symbol_that_a_domain_lacks_rules_it_out():
    tunnel = arrays(Mixture(domains=(Urn(hypotheses=10), Markov(symbols=3)), segment=None))
    batch = Batch(jnp.asarray([[3, 0, 2, 1]]), jnp.asarray([[0, 2, 1, 0]]), jnp.ones((1, 4)))
    log_p, log_posterior = log_p_of(tunnel, batch, jnp.arange(4))
    np.testing.assert_array_equal(np.exp(log_posterior[0, 2:]), [[0, 1], [0, 1]])
    assert np.isfinite(np.exp(log_p)).all()


@pytest.mark.slow
def test_after_32_000_symbols_the_domain_is_certain_and_says_what_it_says_alone():
    """In float32, where the odds between domains are a number with thousands of digits."""
    n, at = 32_000, np.asarray([0, 1_000, 31_999])

    @jax.jit
    def late(tunnel):
        tables = tunnel.prepare(n)
        batch = tunnel.sample(jax.random.key(1), tables, 4, n)
        alone = tunnel._log_predictives(tables, tunnel._segments(batch), None)[:, :, at]
        return *log_p_of(tunnel, batch, at), alone

    with jax.enable_x64(False):
        tunnel = arrays(Mixture(domains=(Markov(symbols=3), Urn(hypotheses=5)), segment=None))
        log_p, log_posterior, alone = jax.tree.map(np.asarray, late(tunnel))
    np.testing.assert_allclose(np.exp(log_p).sum(-1), 1, atol=1e-5)
    domain = log_posterior[:, -1].argmax(-1)
    assert set(domain) == {0, 1} and np.exp(log_posterior[:, 1:].max(-1)).min() > 1 - 1e-5
    for b, d in enumerate(domain):
        np.testing.assert_allclose(np.exp(log_p[b, 1:]), np.exp(alone[d, b, 1:]), atol=1e-5)


RUNS = Mixture(domains=(Markov(symbols=3, order=0), Echo(symbols=3)), hazard=0.3)


def test_runs_that_hardly_ever_end_are_the_sequence_that_is_one_segment():
    """Another program, which knows nothing of beginnings."""
    whole = Mixture(domains=RUNS.domains)
    batch, log_p, log_posterior = drawn(whole, 12, sequences=8)
    rare, rare_posterior = log_p_of(arrays(Mixture(domains=RUNS.domains, hazard=1e-9)), batch, jnp.arange(12))
    np.testing.assert_allclose(np.exp(rare), np.exp(log_p), atol=1e-7)
    np.testing.assert_allclose(np.exp(rare_posterior), np.exp(log_posterior), atol=1e-7)


def test_where_every_symbol_begins_a_run_nothing_is_known():
    _, log_p, log_posterior = drawn(Mixture(domains=RUNS.domains, hazard=1 - 1e-12), 8, sequences=8)
    np.testing.assert_allclose(np.exp(log_p), 1 / 3, atol=1e-9)
    np.testing.assert_allclose(np.exp(log_posterior), 1 / 2, atol=1e-9)


def test_runs_at_some_observations_as_at_all_and_by_blocks(monkeypatch):
    from windtunnel.tunnels import recall

    batch, log_p, _ = drawn(RUNS, 12, sequences=4)
    monkeypatch.setattr(recall, "BLOCK", 1)
    some = np.asarray([1, 7, 11])
    few = jax.jit(lambda tunnel: tunnel.log_predictive((), batch, some))(arrays(RUNS))
    np.testing.assert_allclose(few, log_p[:, some], atol=1e-12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"marked": True}, "hazard: segments begin where nothing marks it"),
        ({"segment": 8}, "hazard: segments begin where nothing marks it"),
        ({"domains": (Markov(order=1), Echo())}, "domains.0=markov: with a hazard, echo and markov of order 0"),
        ({"domains": (Echo(), Urn())}, "domains.1=urn: with a hazard"),
    ],
)
def test_what_cannot_begin_anywhere_takes_no_part_in_runs(fields, message):
    assert message in Mixture(**{"domains": RUNS.domains, "hazard": 0.1, **fields}).conflict

"""`switching`, beyond what `verify` proves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel.spec import arrays
from windtunnel.tunnels import Batch, Markov, Switching

pytestmark = pytest.mark.usefixtures("x64")

AT = jnp.arange(12)


@jax.jit
def asked(tunnel, batch):
    at = jnp.arange(batch.inputs.shape[1])
    return tunnel.log_predictive((), batch, at), tunnel.log_posterior((), batch, at), tunnel.log_domains((), batch, at)


@pytest.fixture(scope="module")
def batch():
    with jax.enable_x64(True):
        tunnel = arrays(Switching(symbols=3, concentration=0.5, hazards=(0.05, 0.6)))
        return jax.jit(lambda tunnel: tunnel.sample(jax.random.key(0), (), 300, 12))(tunnel)


def test_the_example_of_the_docstring():
    batch = Batch(jnp.asarray([[2, 0]]), jnp.asarray([[0, 1]]), jnp.ones((1, 2)))
    log_p, log_began, log_hazard = asked(arrays(Switching(symbols=2, concentration=1.0, hazards=(0.5,))), batch)
    np.testing.assert_allclose(np.exp(log_p[0]), [[1 / 2, 1 / 2], [7 / 12, 5 / 12]])
    np.testing.assert_allclose(np.exp(log_began[0]), [[1, 0], [1 / 2, 1 / 2]])
    np.testing.assert_allclose(log_hazard, 0, atol=1e-12)


def test_what_never_changes_is_a_die_and_what_always_does_says_nothing(batch):
    """The die is another program, which counts."""
    log_p, _, log_hazard = asked(arrays(Switching(symbols=3, concentration=0.5, hazards=(1e-12, 2e-12))), batch)
    die = jax.jit(lambda: Markov(symbols=3, order=0, concentration=0.5).log_predictive((), batch, AT))()
    np.testing.assert_allclose(np.exp(log_p), np.exp(die), atol=1e-9)
    np.testing.assert_allclose(np.exp(log_hazard), 1 / 2, atol=1e-9)
    log_p, _, _ = asked(arrays(Switching(symbols=3, concentration=0.5, hazards=(1 - 1e-12, 1 - 2e-12))), batch)
    np.testing.assert_allclose(np.exp(log_p), 1 / 3, atol=1e-9)


def test_beliefs_about_the_hazard_average_to_their_prior(batch):
    """Data of another mixture of hazards would break it; five standard errors."""
    _, _, log_hazard = asked(arrays(Switching(symbols=3, concentration=0.5, hazards=(0.05, 0.6))), batch)
    p = np.exp(np.asarray(log_hazard))[..., 0]
    error = p.std(axis=0, ddof=1) / np.sqrt(len(p))
    assert (np.abs(p.mean(axis=0) - 1 / 2) <= 5 * error + 1e-12).all() and p[:, -1].std() > 0.1


def test_the_weights_of_tokens_are_those_with_which_throws_count(batch):
    """p(v) is a part that is the same for all v, and the share of the weight of throws that showed v."""
    tunnel = arrays(Switching(symbols=3, concentration=0.5, hazards=(0.05, 0.6)))
    log_p, log_began, _ = asked(tunnel, batch)
    weight = np.exp(jax.jit(lambda: tunnel.token_weights((), batch, AT))())
    run = np.maximum(np.arange(12)[:, None] - np.arange(12)[None], 0)
    alike = (np.exp(np.asarray(log_began)) * 0.5 / (1.5 + run)).sum(-1)[..., None]
    shown = np.eye(3)[np.asarray(batch.outcome_BP)][:, :-1]
    shares = np.einsum("bpt,btv->bpv", weight[..., 1:], shown)
    expected = (np.exp(np.asarray(log_p)) - alike)[:, 1:] / (1 - 3 * alike[:, 1:])
    np.testing.assert_allclose(shares[:, 1:], expected, atol=1e-12)
    assert (weight[:, 0] == 0).all() and (weight[..., 0] == 0).all()

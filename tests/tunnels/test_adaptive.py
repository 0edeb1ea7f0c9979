"""`recall_adaptive`, beyond what `verify` proves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel.compare import verdict
from windtunnel.priors import GeneralizedGaussian, Grid
from windtunnel.problem import Evaluate, Problem, exact_program
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch, Recall, RecallAdaptive, recall

pytestmark = pytest.mark.usefixtures("x64")


def test_the_example_of_the_docstring():
    """A prior that is certain of lag 0 is ruled out by a cue that only the first pair can be the source of."""
    tunnel = RecallAdaptive(bits=1, symbols=2, noise=0.0, prior=Grid(scales=(1e-4, 1e9)))
    first, second = [1, 1, 0, 1], [-1, 0, 1, 1]  # key + value 0 cue +, key − value 1 cue +
    batch = Batch(jnp.asarray([[first, second]], float), jnp.zeros((1, 2), int), jnp.ones((1, 2)))

    @jax.jit
    def asked():
        at = jnp.arange(2)
        own = arrays(tunnel)
        return own.log_domains((), batch, at), own.log_predictive((), batch, at)

    log_domains, log_p = asked()
    np.testing.assert_allclose(np.exp(log_domains[0]), [[0.5, 0.5], [0, 1]], atol=1e-8)
    np.testing.assert_allclose(np.exp(log_p[0]), [[1, 0], [1, 0]], atol=1e-8)


@pytest.fixture(scope="module")
def grid():
    return arrays(RecallAdaptive(bits=5, symbols=3, noise=0.15, prior=Grid(scales=(1.0, 20.0), betas=(1.0, 0.5))))


@pytest.fixture(scope="module")
def batch(grid):
    return jax.jit(lambda tunnel: tunnel.sample(jax.random.key(0), (), 400, 40))(grid)


def test_with_one_prior_it_is_recall(batch):
    """Another program, which knows nothing of priors that are to be learned."""
    alone = arrays(RecallAdaptive(bits=5, symbols=3, noise=0.15, prior=Grid(scales=(4.0,), betas=(0.7,))))
    plain = arrays(Recall(bits=5, symbols=3, noise=0.15, prior=GeneralizedGaussian(scale=4.0, beta=0.7)))
    few = jax.tree.map(lambda leaf: leaf[:4], batch)
    one, other = jax.jit(lambda *tunnels: [own.log_predictive((), few, jnp.arange(40)) for own in tunnels])(
        alone, plain
    )
    np.testing.assert_allclose(one, other, atol=1e-12)


def test_beliefs_about_the_prior_average_to_the_hyper_prior_and_grow_surer(grid, batch):
    """E[P(g | cues)] = P(g), which data from other priors would break; five standard errors."""
    log_domains = jax.jit(lambda tunnel: tunnel.log_domains((), batch, jnp.asarray([0, 9, 39])))(grid)
    p = np.exp(np.asarray(log_domains))
    error = p.std(axis=0, ddof=1) / np.sqrt(len(p))
    assert (np.abs(p.mean(axis=0) - 1 / 4) <= 5 * error + 1e-12).all()
    largest = p.max(axis=-1).mean(axis=0)
    assert pytest.approx(largest[0]) == 1 / 4 and largest[0] < largest[1] < largest[2]


def test_the_oracle_is_no_headroom():
    """It knows more than the exact reasoner, and is far from it while that is still learning."""
    tunnel = RecallAdaptive(bits=3, symbols=3, noise=0.2, prior=Grid(scales=(0.3, 50.0)))
    problem = Problem(tunnel=tunnel, horizon=16, evaluate=Evaluate(reach=2, examples=48))
    exact = jax.tree.map(np.asarray, exact_program(arrays(problem)))
    numbers, curves = verdict(problem, exact, exact.log_predictive)
    past = {name: gap["kl_bits_past"] for name, gap in numbers["baselines"].items()}
    assert {"static", "oracle", "cues-1", "cues-8", "cues-horizon"} <= set(past)
    assert numbers["headroom_bits_past"] == min(gap for name, gap in past.items() if name != "oracle")
    lesser = {name: curve for name, curve in curves.items() if name.startswith("baseline/") and "oracle" not in name}
    assert (curves["headroom_bits"][-1] == min(curve[-1] for curve in lesser.values())) and len(numbers["domains"]) == 2
    assert numbers["equivalent_memory"] == 16, "`cues-w` count as memory"


def test_a_few_positions_at_a_time_are_as_all_at_once(grid, batch, monkeypatch):
    few, at = jax.tree.map(lambda leaf: leaf[:2], batch), jnp.asarray([0, 3, 18, 39])

    def answers():
        """Traced anew."""
        return jax.jit(lambda: {"exact": grid.log_predictive((), few, at), **grid.baselines((), few, at, 4)})()

    whole = answers()
    monkeypatch.setattr(recall, "BLOCK", 700)  # two positions
    for name, log_p in answers().items():
        np.testing.assert_allclose(log_p, whole[name], atol=1e-12, err_msg=name)

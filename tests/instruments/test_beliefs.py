"""Beliefs, of models that are planted: one whose residual state is the belief, and one that holds nothing of it."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.composed import study
from windtunnel.information import kl_bits
from windtunnel.instruments import base, beliefs
from windtunnel.models.tap import as_tap
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch

MESS3 = "tunnel=mess3 model.layers=1 train.horizon=8 evaluate.reach=1".split()


class Planted(nnx.Module):
    """The exact filter: the residual state is the belief, turned and shifted, and the logits are read from it. `blind`
    it shows the belief of nobody.
    """

    def __init__(self, study, params):
        self.tunnel, self.sees = nnx.data(study.tunnel), params

    def __call__(self, inputs, tokens, *, key=None, tap=None, readings=None):
        length, at = inputs.shape[1], jnp.asarray(tokens)
        shown = jnp.pad(inputs[:, 1:], ((0, 0), (0, 1)))
        batch, tables = Batch(inputs, shown, jnp.ones(inputs.shape)), self.tunnel.prepare(length)
        belief = jnp.exp(self.tunnel.log_posterior(tables, batch, at))
        turn = jax.random.orthogonal(jax.random.key(3), 3)
        state = as_tap(tap)(0, "residual", self.sees * (belief @ turn + 2.0))
        read = (state - 2.0) @ turn.T
        return jnp.log(jnp.maximum(read @ tables.emission[0], 1e-9))


@cache
def record(sees):
    subject = base.Subject(arrays(study(*MESS3)), jnp.asarray(sees), model=Planted, null=jnp.asarray(0.0))
    assert beliefs.refusal(subject) is None
    return base.finite(beliefs.measure(subject))


def test_a_state_that_is_the_belief_is_read_and_forces_what_follows():
    exact = record(1.0)
    (layer,) = exact["layers"]
    assert layer["r2"] == pytest.approx(1, abs=1e-4)
    assert max(layer["untrained"], layer["shuffled"]) < 0.1
    assert layer["after"] == pytest.approx(exact["linear"], rel=1e-3), "a centroid holds the mean belief of its state"
    assert layer["after"] < 0.3 * min(layer["before"], layer["other"], layer["random"])
    np.testing.assert_allclose(exact["simplex"]["decoded"], exact["simplex"]["exact"], atol=0.01)
    assert len(beliefs.lines(exact)) == 2 and beliefs.headline(exact)["r2"] == layer["r2"]


def test_the_counterfactual_is_the_row_of_the_emission_matrix():
    """P(outcome | do z) from the joint distribution of a state and its symbol, in plain numbers."""
    tunnel = study(*MESS3).tunnel
    batch = tunnel.sample(jax.random.key(0), tunnel.prepare(8), 2, 8)
    log_given = tunnel.log_given(tunnel.prepare(8), batch, jnp.asarray([7]))
    rows = np.where(np.eye(3, dtype=bool), 0.85, 0.075)
    np.testing.assert_allclose(np.exp(log_given), np.broadcast_to(rows, (2, 1, 3, 3)), rtol=1e-5)
    before = np.mean([kl_bits(np.log(rows), np.log(np.broadcast_to(p, (3, 3)))).mean() for p in np.ones((1, 3)) / 3])
    assert record(1.0)["layers"][0]["before"] > before, (
        "who is sure of another state is farther off than who knows nothing"
    )


def test_a_tunnel_without_hidden_states_is_refused_in_a_line():
    assert beliefs.refusal(base.Subject(arrays(study("tunnel=recall")), None)) == "recall hides no state"

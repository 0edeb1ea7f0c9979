"""`hops`, beyond what `verify` proves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.composed import study
from windtunnel.priors import Gaussian
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch, Hops, recall

pytestmark = pytest.mark.usefixtures("x64")

SMALL = Hops(bits=3, symbols=3, hops=5, noise=0.1, prior=Gaussian(scale=4.0))


def test_the_example_of_the_docstring():
    """Keys ++, +−, −−; the third pair holds +−; the cue −− asks for the third value, the second, then the first."""
    tunnel, keys = Hops(bits=2, symbols=3, noise=0.0), [[1, 1], [1, -1], [-1, -1]]
    pointers, every = [[0, 0], [1, 1], [1, -1]], np.eye(3)
    rows = [
        [[*key, *one, *pointer, -1, -1, asked] for key, one, pointer in zip(keys, every, pointers, strict=True)]
        for asked in range(5)
    ]
    batch = Batch(jnp.asarray(rows, float), jnp.zeros((5, 3), int), jnp.ones((5, 3)))
    log_p = jax.jit(lambda tunnel: tunnel.log_predictive((), batch, jnp.asarray([2])))(arrays(tunnel))
    np.testing.assert_array_equal(np.exp(log_p[:, 0]), every[[2, 1, 0, 0, 0]])


def test_pointers_lead_strictly_back_and_the_first_pair_keeps():
    """Without noise and with long keys every pointer names its pair, and the outcome is where following leads."""
    tunnel = Hops(bits=24, symbols=5, hops=3, noise=0.0, prior=Gaussian(scale=4.0))
    batch = jax.jit(lambda tunnel: tunnel.sample(jax.random.key(0), (), 20, 30))(arrays(tunnel))
    key, value, pointer, cue, asked = np.split(np.asarray(batch.inputs), [24, 29, 53, 77], axis=-1)
    assert (pointer[:, 0] == 0).all() and set(np.unique(asked)) == {0, 1, 2, 3}
    for b in range(20):
        number = {tuple(k): i for i, k in enumerate(key[b])}
        following = [0, *(number[tuple(p)] for p in pointer[b, 1:])]
        assert all(j < i for i, j in enumerate(following) if i)
        for t in range(30):
            at = number[tuple(cue[b, t])]
            assert at <= t
            for _ in range(int(asked[b, t, 0])):
                at = following[at]
            assert value[b, at].argmax() == batch.outcome_BP[b, t]


def test_a_few_positions_at_a_time_are_as_all_at_once(monkeypatch):
    at = jnp.asarray([0, 3, 4, 18, 29])

    def answers():
        @jax.jit
        def answer(tunnel):
            batch = tunnel.sample(jax.random.key(0), (), 2, 30)
            exact, cut = tunnel.log_predictive((), batch, at), tunnel.log_last((), batch, at, 3)
            return {"exact": exact, "cut-3": cut, "hops-2": tunnel._within(batch, at, 2)}

        return answer(arrays(SMALL))

    whole = answers()
    monkeypatch.setattr(recall, "BLOCK", 120)  # two positions
    for name, log_p in answers().items():
        np.testing.assert_allclose(np.exp(log_p), np.exp(whole[name]), atol=1e-12, err_msg=name)


def test_farther_questions_are_put_to_the_same_sequences():
    small = study("tunnel=hops", "train.horizon=8", "evaluate.reach=2", "evaluate.examples=4", "evaluate.hops=12")
    problems = small.problem, small.problem.farther
    near, far = (np.asarray(problem.each(lambda batch: batch.inputs, jnp.arange(4))) for problem in problems)
    cue = slice(-small.tunnel.bits - 1, -1)
    np.testing.assert_array_equal(near[..., :-1], far[..., :-1])
    assert near[..., -1].max() == 4 and far[..., -1].max() == 12 and near[..., cue].any()
    assert problems[0].id != problems[1].id and problems[1].farther is None

"""The problem: what its id stands for, which sequences it asks about, and what it says of them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.composed import study, tiny
from windtunnel.compare import verdict
from windtunnel.door import problem as door
from windtunnel.judge import Judge
from windtunnel.problem import Exact, Problem, exact_program
from windtunnel.spec import arrays, plain


def test_a_study_states_its_problem():
    one = tiny()
    problem = one.problem
    assert (problem.tunnel, problem.horizon, problem.evaluate) == (one.tunnel, 6, one.evaluate)
    assert problem.length == 24 and problem.bins.at.max() == 23
    np.testing.assert_array_equal(problem.tokens, one.tunnel.scored(24)[problem.bins.at])


@pytest.mark.parametrize(
    "override",
    "tunnel.noise=0.2 tunnel.bits=4 prior=uniform tunnel.prior.scale=3 train.horizon=7 evaluate.reach=3 "
    "evaluate.examples=9 evaluate.seed=1 evaluate.tolerance=0.1 evaluate.settled=0.1".split(),
)
def test_the_id_changes_with_what_is_asked(override):
    assert tiny(override).problem.id != tiny().problem.id


def test_the_id_does_not_change_with_who_answers():
    """Neither with the model nor with how it is trained; nor by a way through the door, or through `replace`."""
    answers = "position=alibi model.width=32 train.steps=5 train.batch=8 train.supervision=sample seed=1 model=gru"
    ids = {study(override).problem.id for override in answers.split()}
    same = study().problem
    again = Problem(**{name: getattr(same, name) for name in ("tunnel", "horizon", "evaluate")})
    assert ids == {same.id, again.id}
    assert study("tunnel=bijection").problem.id == study("tunnel=bijection", "train.horizon=20").problem.id


@pytest.fixture(scope="module")
def asked():
    """A tunnel of a pool, so that there is a reasoner that does not know it."""
    small = "tunnel=bijection tunnel.symbols=4 tunnel.pool=3 train.horizon=2 evaluate.reach=2 evaluate.examples=8"
    with jax.enable_x64(True):
        yield arrays(study(*small.split()).problem)


@pytest.fixture(scope="module")
def batch(asked):
    """Its sequences as one batch."""

    @jax.jit
    def drawn(problem, numbers):
        tables = problem.tunnel.prepare(problem.length)
        keys = jax.vmap(lambda number: jax.random.fold_in(problem.key, number))(numbers)
        return jax.vmap(lambda key: problem.tunnel.sample(key, tables, 1, problem.length))(keys)

    return jax.tree.map(lambda leaf: leaf[:, 0], drawn(asked, jnp.arange(8)))


def test_exact_answers_are_those_of_the_tunnel(asked, batch):
    """Its own, on the same sequences at once, at the scored observations."""
    exact, at = exact_program(asked), jnp.asarray(asked.bins.at)
    np.testing.assert_array_equal(asked.bins.at, [0, 1, 2, 3])

    @jax.jit
    def own(problem, batch):
        tunnel, tables = problem.tunnel, problem.tunnel.prepare(problem.length)
        baselines = tunnel.baselines(tables, batch, at, problem.horizon)
        return Exact(
            tunnel.log_predictive(tables, batch, at),
            tunnel.log_full_predictive(tables, batch, at),
            baselines,
            batch.outcome_BP[:, at],
            batch.weight_BP[:, at],
        )

    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-12), exact, own(asked, batch))
    assert np.abs(np.exp(exact.full) - np.exp(exact.log_predictive)).max() > 0.1, "a pool is worth knowing"
    assert {"prior", "last-1", "last-horizon"} <= exact.baselines.keys()


def test_a_sequence_depends_on_its_number_and_the_seed_alone(asked, batch):
    numbers = [5, 2, 7]
    inputs = asked.each(lambda one: one.inputs, jnp.asarray(numbers))
    np.testing.assert_array_equal(inputs, batch.inputs[jnp.asarray(numbers)])
    others = [replace(asked, evaluate=replace(asked.evaluate, **one)) for one in ({"examples": 9}, {"seed": 1})]
    keys = [jax.random.key_data(problem.key).tolist() for problem in (asked, *others)]
    assert keys[0] == keys[1] != keys[2]


def test_plain_goes_back_through_the_door():
    problem = tiny().problem
    assert door(plain(problem)) == problem


def test_baselines_know_the_pool():
    """Bijection of 10 with replacement, a pool of 7, horizon 16: who knows the pool and sees one horizon knows all, so
    that exact inference past it proves nothing. Headroom used to be 0.2 bits: ignorance of the pool.
    """
    overrides = "tunnel=bijection_replacement tunnel.symbols=10 tunnel.pool=7 train.horizon=16 evaluate.reach=4"
    problem = study(*overrides.split(), "evaluate.most_examples=64").problem
    judge = Judge()
    exact = judge.exact(problem)
    numbers, _ = verdict(problem, exact, exact.log_predictive)
    assert numbers["headroom_bits_past"] < 1e-3 and numbers["verdict"] == "vacuous"


def test_a_case_asks_for_more_sequences_only_while_something_is_open():
    problem = study("tunnel=die", "train.horizon=8", "evaluate.reach=4", "evaluate.most_examples=256").problem
    judge = Judge()
    exact = judge.exact(problem)
    assert judge.case(problem, exact.log_predictive).wanted() == []
    share = np.where(np.arange(64)[:, None, None] == 5, 0.99, 0.0)  # one sequence in 64 is wrong
    bad = np.log((1 - share) * np.exp(exact.log_predictive) + share * np.eye(exact.log_predictive.shape[-1])[0])
    case = judge.case(problem, bad)
    assert case.wanted() == [64]
    log_p, _ = judge.answers(problem, 64)
    case.add(64, log_p)
    assert case.sequences == 128 and case.wanted() == [128, 192]
    same, _ = judge.answers(problem, 0)
    np.testing.assert_array_equal(same, exact.log_predictive)
    assert not np.array_equal(log_p, same)

"""The loss terms that know of domains: of a whole batch, and of its shares on devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from tests import composed
from windtunnel import train
from windtunnel.losses import Domain, Look, Separation
from windtunnel.models.tap import Collect
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch

B, T, D = 8, 5, 6
DRAW = np.random.default_rng(0)
LOG_P = np.log(DRAW.dirichlet([0.5, 0.5], size=(B, T)))
GATE = np.log(DRAW.dirichlet([2.0, 2.0], size=(B, T)))
STATES = DRAW.normal(size=(B, T, D)) @ DRAW.normal(size=(D, D)) + DRAW.normal(size=D)
WEIGHT = DRAW.integers(0, 2, size=(B, T)).astype(float)


def look(states, log_p, gate, weight, axis=None):
    seen = Collect()
    seen.seen.update({"residual": {0: states * 0, 1: states}, "gate": {1: gate}})
    return Look(None, Batch(None, None, weight), None, None, seen, axis, np.arange(T), log_p)


def measured(term, *parts):
    return jax.jit(lambda *parts: term.measure(look(*parts)))(*map(jnp.asarray, parts))


def covariances(weight_BTK):
    flat, of = STATES.reshape(-1, D), weight_BTK.reshape(B * T, -1)
    return [np.cov(flat.T, aweights=of[:, k], ddof=0) for k in range(of.shape[1])]


def alike(a, b):
    return np.trace(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))


def test_domain_is_the_divergence_of_posterior_and_gate():
    total, weight = measured(Domain(), STATES, LOG_P, GATE, WEIGHT)
    kl = (np.exp(LOG_P) * (LOG_P - GATE)).sum(-1)
    assert total / weight == pytest.approx((kl * WEIGHT).sum() / WEIGHT.sum(), rel=1e-5)
    shuffled = measured(Domain(shuffled=True), STATES, LOG_P, GATE, WEIGHT)
    other = (np.exp(np.roll(LOG_P, 1, 0)) * (np.roll(LOG_P, 1, 0) - GATE)).sum(-1)
    assert shuffled.total / shuffled.weight == pytest.approx((other * WEIGHT).sum() / WEIGHT.sum(), rel=1e-5)


def test_separation_is_the_overlap_of_the_domains_covariances():
    for of, log_p in (("domains", LOG_P), ("shuffled", np.roll(LOG_P, 1, 0))):
        total, weight = measured(Separation(of=of), STATES, LOG_P, GATE, WEIGHT)
        assert weight == 1
        assert total == pytest.approx(alike(*covariances(np.exp(log_p) * WEIGHT[..., None])), rel=1e-3)


def test_separation_is_zero_of_orthogonal_manifolds_and_one_of_the_same():
    domain = np.arange(B) % 2
    log_p = np.where(np.eye(2)[domain] > 0, 0.0, -np.inf)[:, None].repeat(T, 1)
    apart = np.where((np.arange(D) < 3)[None, None] == (domain == 0)[:, None, None], STATES, 1.0)
    assert measured(Separation(), apart, log_p, GATE, np.ones((B, T))).total == pytest.approx(0, abs=1e-6)
    same = np.repeat(STATES[:1], B, 0)
    assert measured(Separation(), same, log_p, GATE, np.ones((B, T))).total == pytest.approx(1, rel=1e-4)


def test_random_subspaces_know_nothing_of_domains():
    totals = [measured(Separation(of="subspaces"), STATES, log_p, GATE, WEIGHT).total for log_p in (LOG_P, LOG_P[::-1])]
    assert totals[0] == pytest.approx(totals[1]) and 0 < totals[0] < 1


@pytest.mark.parametrize("term", [Domain(), Separation(), Separation(of="subspaces")], ids=["domain", "of", "random"])
def test_two_devices_measure_what_one_does(term):
    parts = tuple(map(jnp.asarray, (STATES, LOG_P, GATE, WEIGHT)))
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("batch",))

    def mean(states, gate, log_p, weight, axis=None):
        total, count = term.measure(look(states, log_p, gate, weight, axis))
        return (total, count) if axis is None or isinstance(term, Separation) else jax.lax.psum((total, count), axis)

    @partial(jax.shard_map, mesh=mesh, in_specs=P("batch"), out_specs=P(), check_vma=False)
    def shared(states, gate, log_p, weight):
        total, count = mean(states, gate, log_p, weight, "batch")
        return total / count

    def alone(states, gate, log_p, weight):
        total, count = mean(states, gate, log_p, weight)
        return total / count

    states, log_p, gate, weight = parts
    one, two = (jax.jit(of)(states, gate, log_p, weight) for of in (alone, shared))
    assert two == pytest.approx(float(one), rel=1e-4)


@pytest.mark.slow
def test_two_devices_learn_from_a_statistic_of_the_batch_what_one_does():
    """Each has the gradient of the whole statistic by its own examples; these add up."""
    words = (
        "tunnel=mixture_conflict model=small model.layers=1 model.heads=2 model.width=8 model.hidden=8 train.batch=8 "
        "train.horizon=8 train.optimizer=sgd train.learning_rate=0.1 train.warmup=0 train.clip=1e9 "
        "+term=separation train.terms.separation.strength=100"
    )
    asked = arrays(composed.study(*words.split()))
    tables, state = train.prepare(asked), train.start(asked)
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("batch",))

    def advance(state, axis=None):
        return train.advance(asked, tables, state, np.int32(2), axis)[0].params

    shared = jax.shard_map(partial(advance, axis="batch"), mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)
    one, two = (jax.jit(of)(state) for of in (advance, shared))
    moved = jax.tree.map(lambda after, before: float(np.abs(after - before).max()), one, state.params)
    assert max(jax.tree.leaves(moved)) > 0.1
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-4), one, two)

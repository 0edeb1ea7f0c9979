"""Loss terms beside cross-entropy: one that is a sum over examples, one that is a statistic of the batch.

On two devices, each of which sees half of a batch, gradients, parameters and learning curves are those of one.
"""

from dataclasses import replace
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.composed import tiny
from windtunnel import train
from windtunnel.losses import Look, Sum, Term
from windtunnel.spec import arrays, spec
from windtunnel.sweep.packs import BATCH, Program


@spec
class Residual(Term):
    """The mean square of the residual stream where the outcome is 0: a weight that differs between examples."""

    name: Literal["residual"] = "residual"
    kinds = ("residual",)

    def measure(self, look: Look) -> Sum:
        counts_BP1 = (look.batch.outcome_BP == 0)[..., None] * look.batch.weight_BP[..., None]
        squares = [jnp.sum(x_BPD**2 * counts_BP1) for x_BPD in look.seen["residual"].values()]
        return Sum(sum(squares), jnp.sum(counts_BP1) * len(squares) * look.seen["residual"][0].shape[-1])


@spec
class Balance(Term):
    """Σ_v m_v log m_v of the batch's mean prediction m: no sum over examples."""

    name: Literal["balance"] = "balance"

    def measure(self, look: Look) -> Sum:
        weight_BP1 = look.batch.weight_BP[..., None]
        total_V, weight = look.over_devices((jnp.sum(jnp.exp(look.log_q_BPV) * weight_BP1, (0, 1)), weight_BP1.sum()))
        mean_V = total_V / weight
        return Sum(jnp.sum(mean_V * jnp.log(mean_V)), jnp.ones(()))


TERMS = {"residual": Residual(strength=0.3), "balance": Balance(strength=2.0)}
# Steps that are the gradient times the rate; the first, from which the rate warms up, is none.
PLAIN = "train.optimizer=sgd train.learning_rate=0.1 train.clip=1e9 train.warmup=0".split()


def studied(**terms):
    made = tiny(*PLAIN)
    return replace(made, train=replace(made.train, terms=terms))


@jax.jit
def on_one_device(study, state, steps):
    return train.advance(study, train.prepare(study), state, steps)


@jax.jit
@partial(jax.grad, argnums=1, has_aux=True)
def gradient_by_hand(asked, params, step):
    """Of the loss at a step, from the definition: every term's sum over its own weight; and these."""
    key = jax.random.fold_in(train.stream(asked, train.DATA), step)
    tables = train.prepare(asked)
    batch = train.examples(asked, tables, key, jnp.arange(asked.train.batch))
    sums = train.measured(asked, tables, batch, train.model(asked, params))
    means = {name: of.total / of.weight for name, of in sums.items()}
    others = sum(term.strength * means[name] for name, term in asked.train.terms.items())
    return means["cross_entropy"] + others, means


@pytest.fixture(scope="module")
def made():
    return studied(**TERMS)


@pytest.fixture(scope="module")
def trained(made):
    """{devices: the parameters after 0, 2 and 4 steps, and the curves of these}."""
    asked, program = arrays(made), Program([made])
    assert program.axis == BATCH and program.mesh.shape[BATCH] == 2
    ways = {
        1: (jax.jit(train.start)(asked), lambda state: on_one_device(asked, state, 2), lambda leaf: leaf),
        2: (program.start(), lambda state: program.advance(state, 2), lambda leaf: leaf[0]),
    }
    runs = {}
    for devices, (state, advance, mine) in ways.items():
        params, curves = [state.params], []
        params[0] = jax.tree.map(np.asarray, params[0])
        for _ in range(2):
            state, two = advance(state)
            params.append(jax.tree.map(np.asarray, state.params))
            curves.append({name: np.asarray(mine(curve))[:2] for name, curve in two.items()})
        whole = {name: np.concatenate([two[name] for two in curves]) for name in curves[0]}
        runs[devices] = [jax.tree.map(mine, one) for one in params], whole
    return runs


def close(one, other, rtol=1e-3, atol=2e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), one, other)


@pytest.mark.parametrize("devices", [1, 2])
def test_the_gradient_is_that_of_every_sum_over_its_own_weight(made, trained, devices):
    (begun, after, _), curves = trained[devices]
    gradient, means = gradient_by_hand(arrays(made), begun, 1)
    close(jax.tree.map(lambda a, b: (a - b) / 0.1, begun, after), gradient, atol=5e-5)
    bits = {f"{name}_bits": means.pop(name) / np.log(2) for name in ("kl", "cross_entropy")}
    assert curves.keys() == {*bits, *TERMS}
    for name, expected in {**bits, **means}.items():
        assert curves[name][1] == pytest.approx(float(expected), rel=1e-4)


def test_two_devices_train_as_one_does(trained):
    (*_, one), curves = trained[1]
    (*_, two), others = trained[2]
    close(one, two)
    close(curves, others, rtol=1e-4)
    assert all(np.ptp(curve) > 0 for curve in curves.values())


def test_a_term_pulls_at_the_model_and_at_strength_zero_does_not(made, trained):
    """The three studies with terms share one program."""
    state = jax.jit(train.start)(arrays(made))
    programs = on_one_device._cache_size()

    def after(**terms):
        return on_one_device(arrays(studied(**terms)), state, 4)[0].params

    zero = after(residual=Residual(strength=0.0), balance=Balance(strength=0.0))
    assert on_one_device._cache_size() == programs
    close(zero, after(), rtol=1e-5, atol=1e-6)
    (*_, with_terms), _ = trained[1]
    assert max(jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), zero, with_terms))) > 1e-2

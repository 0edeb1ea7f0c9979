"""Training: what is seen depends on little, steps can be cut anywhere, and the two supervisions want the same."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.composed import study, tiny
from windtunnel import train
from windtunnel.losses import CROSS_ENTROPY, KL
from windtunnel.spec import arrays

ASKED = arrays(tiny("position=alibi"))


@partial(jax.jit, static_argnames="size")
def drawn(asked, step, first, size):
    """The training examples `first` … `first + size − 1` of a step."""
    key = jax.random.fold_in(train.stream(asked, train.DATA), step)
    return train.examples(asked, train.prepare(asked), key, first + jnp.arange(size)).inputs


def test_an_example_depends_on_seed_step_and_number_alone():
    inputs = np.asarray(drawn(ASKED, 3, 0, 4))
    assert len({row.tobytes() for row in inputs}) == 4
    np.testing.assert_array_equal(drawn(ASKED, 3, 2, 4)[:2], inputs[2:])  # whichever device has them
    other = "train.learning_rate=1 train.adam_rate=2 train.clip=3 train.weight_decay=1".split()
    np.testing.assert_array_equal(drawn(arrays(tiny("position=alibi", *other)), 3, 0, 4), inputs)
    assert (drawn(ASKED, 4, 0, 4) != inputs).any(axis=(1, 2)).all()
    assert (drawn(arrays(tiny("position=alibi", "seed=1")), 3, 0, 4) != inputs).any(axis=(1, 2)).all()


@pytest.fixture(scope="module")
def advance():
    return jax.jit(lambda state, steps: train.advance(ASKED, train.prepare(ASKED), state, steps))


@pytest.fixture(scope="module")
def begun():
    return jax.jit(train.start)(ASKED)


@pytest.mark.parametrize("cut", [(1, 3), (3, 1), (2, 0, 2), (1, 1, 1, 1)], ids=str)
def test_steps_can_be_cut_anywhere(advance, begun, cut):
    expected, whole = advance(begun, 4)
    state, pieces = begun, []
    for steps in cut:
        state, curves = advance(state, steps)
        pieces.append(np.asarray(curves["kl_bits"][:steps]))
        assert np.isnan(curves["kl_bits"][steps:]).all()
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    np.testing.assert_array_equal(np.concatenate(pieces), whole["kl_bits"][:4])
    assert whole.keys() == {"kl_bits", "cross_entropy_bits"} and int(state.step) == 4


@pytest.fixture(scope="module")
def toy():
    """In float64: a study of a few numbers, which no symmetry makes zero, and its parameters."""
    small = "tunnel=bijection tunnel.symbols=3 model.width=4 model.heads=1 model.hidden=4 position=alibi".split()
    with jax.enable_x64(True):
        asked = arrays(study(*small, "train.batch=4"))
        params = jax.jit(train.start)(asked).params
        random = np.random.default_rng(0)
        yield asked, jax.tree.map(lambda leaf: np.asarray(leaf + random.normal(0, 0.3, leaf.shape), np.float64), params)


def supervised(asked, how):
    """The study under this supervision."""
    return replace(asked, train=replace(asked.train, supervision=how))


def test_measured_is_what_it_says(toy):
    """Sums over examples and positions, and their weight: by numpy, of weights that differ."""
    asked, params = toy
    weight = np.random.default_rng(1).integers(0, 3, (4, 3)).astype(float)

    @jax.jit
    def everything(asked, weight):
        tables = train.prepare(asked)
        batch = train.examples(asked, tables, train.stream(asked, train.DATA), jnp.arange(4))
        batch, module = batch._replace(weight_BP=weight), train.model(asked, params)
        log_q = jax.nn.log_softmax(module(batch.inputs, asked.tunnel.scored(3)))
        log_p = asked.tunnel.log_predictive(tables, batch, jnp.arange(3))
        measured = [train.measured(supervised(asked, how), tables, batch, module) for how in ("posterior", "sample")]
        return batch.outcome_BP, log_p, log_q, *measured

    outcome, log_p, log_q, posterior, sample = everything(asked, weight)
    log_p, log_q, outcome = map(np.asarray, (log_p, log_q, outcome))
    p, some = np.exp(log_p), np.where(log_p > -np.inf, log_p, 0)
    expected = {
        "posterior": -(p * log_q * weight[..., None]).sum(),
        "sample": -(np.take_along_axis(log_q, outcome[..., None], -1)[..., 0] * weight).sum(),
        KL: ((p * (some - log_q)).sum(-1) * weight).sum(),
    }
    assert float(posterior[CROSS_ENTROPY].total) == pytest.approx(expected["posterior"])
    assert float(sample[CROSS_ENTROPY].total) == pytest.approx(expected["sample"])
    for found in (posterior, sample):
        assert float(found[KL].total) == pytest.approx(expected[KL])
        assert float(found[KL].weight) == float(found[CROSS_ENTROPY].weight) == weight.sum()


EXAMPLES, MIDDLE = 8192, 1


@pytest.fixture(scope="module")
def gradients(toy):
    """{supervision: [examples, 2, numbers]}: the gradient of cross-entropy of every example by itself, in float64: of
    all its observations, and of the one in the middle alone.
    """
    asked, params = toy
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    weights = jnp.stack([jnp.ones((1, 3)), jnp.eye(3)[MIDDLE : MIDDLE + 1]])

    @jax.jit
    def all_of_them(flat):
        tables, key = train.prepare(asked), train.stream(asked, train.DATA)

        def loss(flat, number, weight, how):
            batch = train.examples(asked, tables, key, number[None])._replace(weight_BP=weight)
            measured = train.measured(supervised(asked, how), tables, batch, train.model(asked, unravel(flat)))
            return measured[CROSS_ENTROPY].total

        def one(number):
            return {
                how: jax.vmap(lambda weight, how=how: jax.grad(loss)(flat, number, weight, how))(weights)
                for how in ("posterior", "sample")
            }

        return jax.lax.map(one, jnp.arange(EXAMPLES), batch_size=512)

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, all_of_them(flat))


@pytest.mark.slow
def test_sample_supervision_has_the_gradient_of_posterior_supervision_on_average(gradients):
    """By Monte Carlo over sequences as they are drawn. The difference of the two gradients of an example has mean
    zero: no coordinate's mean is further from it than five standard errors, and their squares are one on average.
    """
    posterior, sample = (gradients[how][:, 0] for how in ("posterior", "sample"))
    assert posterior.dtype == np.float64
    difference = sample - posterior
    error = difference.std(axis=0, ddof=1) / np.sqrt(EXAMPLES)
    moves = error > 1e-12
    assert moves.sum() > 50
    assert np.abs(difference[:, ~moves]).max(initial=0) < 1e-9
    z = difference.mean(axis=0)[moves] / error[moves]
    assert np.abs(z).max() < 5 and 0.5 < (z**2).mean() < 2
    # And the mean itself is nothing that is zero anyway: it is many standard errors away.
    assert np.abs(posterior.mean(axis=0)[moves] / error[moves]).max() > 30


@pytest.mark.slow
def test_posterior_supervision_removes_the_variance_of_the_draw(gradients):
    """Rao and Blackwell, at one observation: Var g_sample = Var g_posterior + Var (g_sample − g_posterior), with no
    covariance. Of a sum over observations that need not hold: later inputs show what was drawn.
    """
    posterior, sample = (gradients[how][:, 1] for how in ("posterior", "sample"))
    total, kept, of_the_draw = (of.var(axis=0).sum() for of in (sample, posterior, sample - posterior))
    assert total > 1.5 * kept > 0
    assert total == pytest.approx(kept + of_the_draw, rel=0.03)

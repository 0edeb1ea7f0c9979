"""Training batches from outside are those that a native study of the same seed trains on, bit for bit."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.composed import study
from tests.external.posed import URN, urn
from windtunnel.spec import arrays
from windtunnel.train import DATA, advance, examples, model, prepare, start, stream

SMALL = (
    "position=uniform",
    "model.width=8",
    "model.hidden=8",
    "train.steps=4",
    "train.warmup=0.5",
    "train.optimizer=sgd",
)


@jax.jit
def drawn(native, step):
    """What `advance` draws in a step, and its targets."""
    tables = prepare(native)
    batch = examples(native, tables, jax.random.fold_in(stream(native, DATA), step), jnp.arange(4))
    return batch, native.tunnel.log_predictive(tables, batch, jnp.arange(8))


def test_what_training_draws_is_what_batches_give():
    for seed in (0, 3):
        native = arrays(study(*URN, *SMALL, f"seed={seed}"))
        for step, batch in enumerate(itertools.islice(urn().batches(seed), 3)):
            expected, log_exact = drawn(native, step)
            assert (batch.inputs == expected.inputs).all() and (batch.outcome == expected.outcome_BP).all()
            assert (batch.weight == expected.weight_BP).all() and (batch.log_exact == log_exact).all()


def test_the_first_losses_of_a_native_study_are_those_on_these_batches():
    """Nothing is learned in the first step, whose rate is 0: so the first two losses are of the untrained model."""
    native = arrays(study(*URN, *SMALL, "seed=3"))
    state = jax.jit(start)(native)
    _, curves = jax.jit(advance)(native, jax.jit(prepare)(native), state, jnp.asarray(2))
    tokens = native.tunnel.scored(8)
    say = jax.jit(lambda native, params, inputs: jax.nn.log_softmax(model(native, params)(inputs, tokens)))
    for batch, expected in zip(urn().batches(3), np.asarray(curves["cross_entropy_bits"][:2]), strict=False):
        log_q = say(native, state.params, batch.inputs)
        found = -(np.exp(batch.log_exact) * log_q).sum(-1).mean() / np.log(2)
        assert found == pytest.approx(expected, rel=1e-5)


def test_seeds_and_steps_differ_and_no_batch_is_of_the_evaluation():
    first, second = itertools.islice(urn().batches(0), 2)
    other = next(urn().batches(1))
    assert (first.inputs != second.inputs).any() and (first.inputs != other.inputs).any()
    assert (first.inputs != urn().evaluation.inputs[:4, :8]).any()
    assert first.inputs.shape == (4, 8) and first.log_exact.shape == (4, 8, 2) and type(first.inputs) is np.ndarray

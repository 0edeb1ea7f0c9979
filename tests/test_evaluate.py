"""Evaluation: what a model is said to predict is what it predicts, of sequences that it never saw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.composed import study, tiny
from windtunnel import evaluate, train
from windtunnel.spec import arrays


@pytest.fixture(scope="module")
def judged():
    """(study, parameters, what is predicted of the sequences 3, 0 and 2)."""
    asked = arrays(tiny("position=alibi"))
    params = jax.jit(train.start)(asked).params
    return asked, params, jax.jit(evaluate.predict)(asked, params, jnp.asarray([3, 0, 2]))


def test_it_is_the_model_run_on_each_sequence_alone(judged):
    """At all tokens, of which the scored ones are picked afterwards."""
    asked, params, predicted = judged
    problem, model = asked.problem, train.model(asked, params)
    tables = problem.tunnel.prepare(problem.length)
    tokens = problem.tunnel.scored(problem.length)[problem.bins.at]

    @jax.jit
    def alone(number):
        batch = problem.tunnel.sample(jax.random.fold_in(problem.key, number), tables, 1, problem.length)
        return jax.nn.log_softmax(model(batch.inputs, np.arange(batch.inputs.shape[1])))[0]

    for row, number in enumerate([3, 0, 2]):
        np.testing.assert_allclose(predicted.log_predictive[row], alone(number)[tokens], atol=1e-5)
    assert np.ptp(predicted.log_predictive, axis=0).max() > 1e-3, "sequences differ"


def test_it_tells_how_attention_was_computed(judged):
    _, _, predicted = judged
    (reading,) = predicted.readings
    assert reading.kernel == "whole" and not reading.skipped_B.any() and not reading.mass_B.any()


def test_it_never_trained_on_them():
    """Other keys, so other sequences: none of these is among those of the first steps, whatever the two seeds."""
    keys = set()
    draw = jax.jit(lambda study, key: train.examples(study, train.prepare(study), key, jnp.arange(16)).inputs)
    for seed in (0, 1):
        asked = study(f"seed={seed}", f"evaluate.seed={seed}")
        data = train.stream(asked, train.DATA)
        drawn = [draw(arrays(asked), jax.random.fold_in(data, step)) for step in range(4)]
        trained = {row.tobytes() for inputs in drawn for row in np.asarray(inputs)}
        judged = {row.tobytes() for row in np.asarray(draw(arrays(asked), asked.problem.key))}
        assert len(trained) == 64 and len(judged) == 16 and not trained & judged
        roots = [asked.problem.key, *(train.stream(asked, use) for use in (train.START, train.DATA, train.MODEL))]
        keys |= {np.asarray(jax.random.key_data(key)).tobytes() for key in roots}
    assert len(keys) == 8

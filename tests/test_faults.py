"""Faults: each does what its name says, at its step and not before, to its study alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.composed import study, tiny
from windtunnel import faults
from windtunnel.faults import Fault
from windtunnel.models.parameters import Path
from windtunnel.models.tap import Collect
from windtunnel.spec import arrays
from windtunnel.sweep.packs import Program
from windtunnel.train import examples, keys_apart, model, prepare, start, stream

VALUES = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
PARAMS = {
    "layers": {
        "0": {"attention": {name: {"kernel": jnp.asarray(VALUES[i])} for i, name in enumerate(("key", "query"))}}
    }
}


def kernel(params, name="key"):
    return np.asarray(params["layers"]["0"]["attention"][name]["kernel"])


def test_it_is_in_force_in_its_steps():
    assert [bool(Fault(name="nan_parameter", step=2, steps=2).in_force(step)) for step in range(5)] == [0, 0, 1, 1, 0]
    assert [bool(Fault(name="nan_parameter", step=2, steps=0).in_force(step)) for step in range(5)] == [0, 0, 1, 1, 1]


def test_rank_one_keeps_the_largest_direction_of_w_k_alone():
    hit = faults.struck(Fault(name="rank_one", step=1), PARAMS, jnp.asarray(1), None)
    sizes, before = (np.linalg.svd(kernel(of), compute_uv=False) for of in (hit, PARAMS))
    np.testing.assert_allclose(sizes, [before[0], 0, 0, 0], atol=1e-5)
    np.testing.assert_array_equal(kernel(hit, "query"), kernel(PARAMS, "query"))
    missed = faults.struck(Fault(name="rank_one", step=1), PARAMS, jnp.asarray(0), None)
    np.testing.assert_array_equal(kernel(missed), kernel(PARAMS).astype(np.float32))


def test_merged_keys_of_two_hypotheses_have_one_mean():
    die = arrays(study("tunnel=die", "train.horizon=8", "model.width=16", "monitor.fault.name=merged"))

    @jax.jit
    def merged():
        tables, state = prepare(die), start(die)
        batch = examples(die, tables, stream(die, 1), jnp.arange(4))
        apart = keys_apart(die, tables, batch, model(die, state.params), lambda tree: tree)
        hit = faults.struck(die.monitor.fault, state.params, jnp.asarray(0), lambda: apart)
        return [
            keys_apart(die, tables, batch, model(die, params), lambda tree: tree) for params in (state.params, hit)
        ], [means(die, batch, params) for params in (state.params, hit)]

    def means(of, batch, params):
        seen = Collect("keys")
        model(of, params)(batch.inputs, np.arange(8), tap=seen)
        k_BTD = jnp.moveaxis(seen["keys"][0], 1, 2).reshape(4, 8, -1)
        return [jnp.sum(jnp.where((batch.inputs == face)[..., None], k_BTD, 0), (0, 1)) / jnp.sum(batch.inputs == face)
                for face in (0, 1)]  # fmt: skip

    _, (before, after) = merged()
    assert np.linalg.norm(before[0] - before[1]) > 0.1
    np.testing.assert_allclose(*after, atol=1e-5)


def test_what_attention_computes():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 1, 5, 3)), jnp.float32)
    np.testing.assert_array_equal(faults.computed("logits", x), 4 * x)
    assert 0 < np.abs(faults.computed("bfloat16", x) - x).max() < 0.01
    np.testing.assert_array_equal(faults.computed("offset", x)[0, 0, 1:], x[0, 0, :-1])
    cells = np.asarray(faults.computed("cells", x))[0, 0]
    positive = np.asarray(x)[0, 0, :, 0] > 0
    for t in range(5):  # by plain loops: the mean of the keys so far in the same cell
        own = [np.asarray(x)[0, 0, j] for j in range(t + 1) if positive[j] == positive[t]]
        np.testing.assert_allclose(cells[t], np.mean(own, axis=0), rtol=1e-5)
    seen = Collect("keys")
    tap = faults.tap(Fault(name="offset", step=1), jnp.asarray(1), seen)
    assert tap(0, "queries", x) is x and not tap.wants("scores")
    np.testing.assert_array_equal(tap(0, "keys", x), seen["keys"][0])


@pytest.mark.parametrize("name", ["nan_parameter", "nan_gradient"])
def test_one_nan_is_in_one_number(name):
    hit = faults.struck(Fault(name=name, step=1), PARAMS, jnp.asarray(1), None)
    hit = faults.spoiled(Fault(name=name, step=1), hit, jnp.asarray(1))
    assert sum(int(np.isnan(leaf).sum()) for leaf in jax.tree.leaves(hit)) == 1


@pytest.mark.slow
def test_a_fault_leaves_what_came_before_it_and_its_neighbours_alone():
    """Of two packs that differ in the step of one study's fault, bit for bit."""

    def trained(step):
        of = [
            tiny("monitor.fault.name=rank_one", f"monitor.fault.step={at}", f"seed={seed}")
            for seed, at in ((0, step), (1, 3))
        ]
        program = Program(of)
        state, curves = program.advance(program.start(), 4)
        return [
            [np.asarray(leaf)[i] for leaf in jax.tree.leaves(program.fetch(state).params)] for i in range(2)
        ], curves

    (early, beside), curves = trained(1)
    (late, alone), others = trained(2)
    assert any((a != b).any() for a, b in zip(early, late, strict=True))
    assert all((a == b).all() for a, b in zip(beside, alone, strict=True))
    kl, other = curves["kl_bits"], others["kl_bits"]
    assert kl[0, 0] == other[0, 0] and kl[0, 1] != other[0, 1], "not before its step"
    np.testing.assert_array_equal(kl[1, :4], other[1, :4])


def test_keys_of_attention_are_known_by_their_path():
    assert Path(("layers", "0", "attention", "key", "kernel")).is_key
    assert not Path(("layers", "0", "attention", "query", "kernel")).is_key

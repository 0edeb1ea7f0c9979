"""A step of the optimiser: on stacks as on single matrices, on devices that share the work as on one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from optax.contrib import MuonDimensionNumbers, muon

from windtunnel import config
from windtunnel.matrices import hidden, stacked, unstacked
from windtunnel.optimizers import optimizer

TRAIN = config.Train(steps=10, warmup=0.0, learning_rate=0.1, weight_decay=0.1)


def tree(seed: int) -> dict:
    """Three hidden matrices of one shape (no even share for two devices), one of another, and what is none."""
    random = np.random.default_rng(seed)

    def of(*shape: int) -> jax.Array:
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    layers = {str(i): {"kernel": of(4, 6), "bias": of(6), "learned": {"table": of(4, 6)}} for i in range(3)}
    return {"layers": layers | {"3": {"kernel": of(6, 4)}}, "embedding": of(4, 6), "scale": of()}


def steps(transformation: optax.GradientTransformation, count: int = 3):
    params = tree(0)
    state = jax.jit(transformation.init)(params)
    update = jax.jit(transformation.update)
    for step in range(count):
        updates, state = update(tree(step + 1), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def assert_same(ours, others) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, others)


def test_stacks_hold_every_number_once():
    stacks = stacked(tree(0))
    assert {key: leaf.shape for key, leaf in stacks.items()} == {"4x6": (3, 4, 6), "6x4": (1, 6, 4), "rest": (115,)}
    jax.tree.map(np.testing.assert_array_equal, unstacked(stacks, tree(1)), tree(0))


@pytest.mark.parametrize("name", ["muon", "adamw", "sgd"])
def test_as_leaf_by_leaf(name):
    unit = optax.warmup_cosine_decay_schedule(0.0, 1.0, 1, 10)
    if name == "muon":
        expected = muon(
            lambda count: 0.1 * unit(count),
            weight_decay=0.1,
            adam_learning_rate=lambda count: 0.025 * unit(count),
            muon_weight_dimension_numbers=lambda params: jax.tree.map(
                lambda is_hidden: MuonDimensionNumbers() if is_hidden else None, hidden(params)
            ),
        )
    elif name == "sgd":
        decay = optax.add_decayed_weights(0.1, mask=hidden)
        expected = optax.chain(decay, optax.sgd(lambda count: 0.1 * unit(count)))
    else:
        expected = optax.adamw(lambda count: 0.1 * unit(count), weight_decay=0.1, mask=hidden)
    expected = optax.chain(optax.clip_by_global_norm(1.0), expected)
    train = config.Train(**{**TRAIN.__dict__, "optimizer": name})
    assert_same(steps(optimizer(train))[0], steps(expected)[0])


def test_devices_that_share_the_work_come_to_the_same():
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))
    both = jax.shard_map(
        lambda: steps(optimizer(TRAIN, "batch")), mesh=mesh, in_specs=(), out_specs=P(), check_vma=False
    )
    assert_same(jax.jit(both)(), steps(optimizer(TRAIN)))

"""Optimisers: which parameter moves when, and by how much."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.composed import tiny
from windtunnel.errors import BadInput
from windtunnel.models.parameters import Path
from windtunnel.optimizers import optimizer
from windtunnel.spec import arrays
from windtunnel.train import start

PARTS = ("routing", "value", "output", "other")


def moved(*overrides, steps=1):
    """{part: how far a parameter of it goes in each step, mean |Δ|} on a gradient of ones, but for the first step, when
    the rate is still 0.
    """
    study = arrays(tiny("train.warmup=0", "train.steps=100", "position=bam", *overrides))
    params = start(study).params
    transformation = optimizer(study.train)
    state = transformation.init(params)
    far = {name: [] for name in PARTS}
    for count in range(1 + steps):
        updates, state = transformation.update(jax.tree.map(jnp.ones_like, params), state, params)
        for name in PARTS:
            leaves = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(updates) if Path.of(path).role == name]
            far[name] += [float(np.mean([np.abs(leaf).mean() for leaf in leaves]))][:count]
    return far


def test_every_parameter_of_attention_is_in_one_part():
    leaves = jax.tree_util.tree_leaves_with_path(start(arrays(tiny("position=bam"))).params)
    named = {"/".join(path.names): path.role for path in (Path.of(path) for path, _ in leaves)}
    attention = {name.split("/attention/")[1]: of for name, of in named.items() if "/attention/" in name}
    assert attention == {
        "query/kernel": "routing", "key/kernel": "routing", "learned/log_alpha": "routing", "learned/beta": "routing",
        "value/kernel": "value", "output/kernel": "output"}  # fmt: skip
    assert {of for name, of in named.items() if "/attention/" not in name} == {"other"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_rates_multiply_the_steps_of_their_part_whatever_the_optimizer(name):
    plain = moved(f"train.optimizer={name}")
    for fast in ("routing", "value", "output"):
        far = moved(f"train.optimizer={name}", f"train.em.{fast}=10")
        for other in PARTS:
            assert far[other][0] == pytest.approx(plain[other][0] * (10 if other == fast else 1), rel=1e-5)


def test_in_phases_routing_and_everything_else_take_turns():
    far = moved("train.optimizer=sgd", "train.em.phase=2", steps=6)
    turns = np.asarray([True, False, False, True, True, False])
    assert ((np.asarray(far["routing"]) > 0) == turns).all()
    for name in ("value", "output", "other"):
        assert ((np.asarray(far[name]) > 0) == ~turns).all()


def test_sgd_is_the_gradient_times_the_rate():
    study = arrays(tiny("train.optimizer=sgd", "train.warmup=0", "train.learning_rate=0.3", "train.clip=1e9"))
    params = start(study).params
    transformation = optimizer(study.train)
    gradients = jax.tree.map(jnp.cos, params)
    _, state = transformation.update(gradients, transformation.init(params), params)  # at the rate 0
    updates, _ = transformation.update(gradients, state, params)
    for update, gradient in zip(jax.tree.leaves(updates), jax.tree.leaves(gradients), strict=True):
        np.testing.assert_allclose(update, -0.3 * gradient, rtol=1e-3)


def test_rates_are_knobs_and_what_has_no_attention_has_none():
    studies = [tiny("train.em.value=10"), tiny("train.em.phase=5"), tiny()]
    assert len({jax.tree.structure(study) for study in studies}) == 1, "one program for all"
    for key in ("train.em.value=10", "train.em.phase=5"):
        with pytest.raises(BadInput, match=r"train\.em: model gru has no attention to route by"):
            tiny_gru(key)


def tiny_gru(key):
    from tests.composed import study

    return study("model=gru", key)

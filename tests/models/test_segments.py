"""Segments: attention within each, and nothing but the memory from one to the next."""

import jax
import jax.numpy as jnp
import numpy as np

from windtunnel.models import Segments, Shape, Transformer, parameters, with_parameters
from windtunnel.models.position import Alibi
from windtunnel.models.tap import Collect, Tap

SPEC = Segments(layers=2, heads=2, width=8, hidden=8, segment=3, memory=2)
SHAPE, AT = Shape(3, 0, 4, 7), np.arange(7)
INPUTS = jax.random.normal(jax.random.key(1), (2, 7, 3))


def built(**changed):
    spec = Segments(**{**SPEC.__dict__, **changed})
    return spec.build(None, SHAPE, jax.random.key(0))


def test_a_segment_starts_from_the_memory_and_sees_nothing_else():
    """Cut by hand: the second segment alone, from the memory that the first wrote."""
    module, seen = built(), Collect("memory")
    logits = module(INPUTS, AT, tap=seen)
    memory_BGMD = seen["memory"][0]
    assert memory_BGMD.shape == (2, 3, 2, 8)
    alone = with_parameters(built(), {**parameters(module), "first": memory_BGMD[0, 1]})
    np.testing.assert_allclose(alone(INPUTS[:1, 3:], np.arange(4)), logits[:1, 3:], atol=1e-5)
    cut = Tap(lambda depth, kind, value: jnp.zeros_like(value), "memory")
    jacobian = jax.jacrev(lambda x: module(x[None], AT, tap=cut)[0])(INPUTS[0])
    size_PT = np.abs(np.asarray(jacobian)).sum(axis=(1, 3))
    same = AT[:, None] // 3 == AT[None] // 3
    np.testing.assert_array_equal(size_PT > 0, same & (AT[None] <= AT[:, None]))


def test_within_a_segment_it_is_the_transformer_over_memory_and_tokens():
    """By a transformer of features that are the embeddings themselves."""
    module = built(segment=7)
    params = parameters(module)
    spec = Transformer(layers=2, heads=2, width=8, hidden=8)
    shared = {name: params[name] for name in ("layers", "norm", "head")}
    identity = {"kernel": jnp.eye(8), "bias": jnp.zeros(8)}
    plain = spec.build(Alibi(), Shape(8, 0, 4, 9), jax.random.key(2))
    plain = with_parameters(plain, {**shared, "embedding": identity})
    embedded = INPUTS @ params["embedding"]["kernel"] + params["embedding"]["bias"]
    z = jnp.concatenate([jnp.broadcast_to(params["first"], (2, 2, 8)), embedded], axis=1)
    np.testing.assert_allclose(module(INPUTS, AT), plain(z, AT + 2), atol=1e-5)


def test_parameters_fit_segments_of_any_length_and_the_cut_is_the_models():
    """A longer segment agrees until the first cut of the shorter, and not after it."""
    module = built()
    other = with_parameters(built(segment=5), parameters(module))
    np.testing.assert_allclose(other(INPUTS, AT)[:, :3], module(INPUTS, AT)[:, :3], atol=1e-5)
    assert not np.allclose(other(INPUTS, AT)[:, 3:5], module(INPUTS, AT)[:, 3:5], atol=1e-3)

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


def test_segments_of_16_32_and_64_agree_until_a_cut_and_the_cut_is_the_models():
    """The same parameters, in fewer and longer segments: what is predicted is the same until the first cut of the
    shorter, and not after it. Memory is written at a cut, so theory promises no more.
    """
    inputs, at = jax.random.normal(jax.random.key(3), (1, 70, 3)), np.arange(70)
    module = built(segment=16)
    modules = {length: with_parameters(built(segment=length), parameters(module)) for length in (16, 32, 64)}
    logits = jax.jit(lambda x: {length: other(x, at) for length, other in modules.items()})(inputs)
    for shorter, longer in ((16, 32), (16, 64), (32, 64)):
        apart_T = np.abs(logits[shorter] - logits[longer]).max(axis=(0, 2))
        assert apart_T[:shorter].max() < 1e-5 < 1e-3 < apart_T[shorter:].min()

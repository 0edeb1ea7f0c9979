"""Additive positions that learn the shape of their log-prior: a table of buckets, or a small network."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from windtunnel.models.position.base import Parameters, Position, distance
from windtunnel.spec import spec

BUCKETS, EXACT, FARTHEST = 32, 16, 128  # the values of T5's decoder, whose attention is causal
UNITS = 32  # U, the hidden units of FIRE's network


@spec
class T5(Position):
    """log p(d) = b_h(bucket of d), b learned per head, from 0. Each of the first 16 of the 32 buckets holds one
    distance. The others are evenly spaced in log d up to 128, and the last holds every larger distance too. Raffel et
    al. 2020.
    """

    name: Literal["t5"] = "t5"

    stationary = True
    flat_beyond = FARTHEST

    def parameters(self, key: Array, heads: int, width: int, length: int) -> Parameters:
        return {"buckets": jnp.zeros((heads, BUCKETS))}

    def bias(self, learned: Parameters, heads: int, query_at: Array, key_at: Array) -> Array:
        return learned["buckets"][:, buckets(distance(query_at, key_at))]


def buckets(distance: Array) -> Array:
    """T5's bucket of each distance: d for d < 16, then 16 + ⌊16 ln(d/16) / ln(128/16)⌋, at most 31."""
    octaves = jnp.log(jnp.maximum(distance, EXACT) / EXACT) / jnp.log(FARTHEST / EXACT)
    far = EXACT + (octaves * (BUCKETS - EXACT)).astype(jnp.int32)
    return jnp.where(distance < EXACT, distance.astype(jnp.int32), jnp.minimum(far, BUCKETS - 1))


@spec
class Fire(Position):
    """log p(i, d) = f_h(ψ(d) / ψ(max(i, L))) for the query i, ψ(x) = ln(cx + 1): a prior over distance as a *share* of
    the visible length, both on a logarithmic scale, so that no input of f exceeds 1. f is a network with one hidden
    layer of 32 ReLU units. f, c > 0 and the threshold L > 0 are learned in each layer; c starts at 0.1 and L at a
    quarter of the training length. The output of f has no constant term, since a softmax ignores it. Li et al. 2024.
    """

    name: Literal["fire"] = "fire"

    def parameters(self, key: Array, heads: int, width: int, length: int) -> Parameters:
        drawn_3UN = jax.random.uniform(key, (3, UNITS, heads), minval=-1.0)
        return {
            "log_c": jnp.log(jnp.asarray(0.1)),
            "log_threshold": jnp.log(jnp.asarray(length / 4)),
            "slope": drawn_3UN[0, :, 0],
            "offset": drawn_3UN[1, :, 0],
            "readout": drawn_3UN[2] / UNITS**0.5,
        }

    def bias(self, learned: Parameters, heads: int, query_at: Array, key_at: Array) -> Array:
        c, threshold = jnp.exp(learned["log_c"]), jnp.exp(learned["log_threshold"])
        farthest_Q = jnp.log1p(c * jnp.maximum(query_at, threshold))
        share_QK = jnp.log1p(c * distance(query_at, key_at)) / farthest_Q[:, None]

        def of_head(readout_U: Array) -> Array:
            # A sum over units, which XLA fuses. A matrix product [Q, K, U] × [U, N] is 200 times slower on a CPU.
            units = zip(learned["slope"], learned["offset"], readout_U, strict=True)
            return sum((w * jax.nn.relu(share_QK * slope + offset) for slope, offset, w in units), jnp.zeros(()))

        return jnp.stack([of_head(learned["readout"][:, head]) for head in range(heads)])

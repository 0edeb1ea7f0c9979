"""Small attention for tests of approximations: tensors, a score, and a codebook of keys that no test reads."""

import jax
import numpy as np

from windtunnel.models import blocks, cells, score
from windtunnel.models.inference import Hierarchical, Sparse, Variational
from windtunnel.models.position import GeneralizedGaussian, Uniform
from windtunnel.spec import arrays

HEADS, LENGTH, WIDTH, CHUNK = 2, 45, 4, 8  # 6 blocks of keys, the last not full
ALL = np.arange(LENGTH)
HEAVY = GeneralizedGaussian(scale=2.0, beta=0.5)
HASTE = {"xla_backend_optimization_level": 0}  # compiling takes longer than the answers
METHODS = {
    "sparse": (Sparse(mass=0.1, above=8), HEAVY),
    "variational": (Variational(cells=4, above=8), Uniform()),
    "hierarchical": (Hierarchical(near=1, above=8), HEAVY),
}


def chunked(monkeypatch):
    monkeypatch.setattr(blocks, "CHUNK", CHUNK)


def tensors():
    return jax.random.normal(jax.random.key(0), (3, 2, HEADS, LENGTH, WIDTH))


def scored(position, log_scale=None):
    position = arrays(position)
    learned = position.parameters(jax.random.key(1), HEADS, 8, 16)
    if log_scale is not None:
        learned["log_scale"] = log_scale
    return score.Score(position, learned, position.positions(None, LENGTH), None, HEADS, False)


def codebook(method):
    """Of keys that no test reads."""
    if method != "variational":
        return {}
    q, k = jax.random.normal(jax.random.key(9), (2, 8, HEADS, LENGTH, WIDTH))
    return jax.jit(lambda q, k: cells.fitted(q, k, 4, 20, 1e-3), compiler_options=HASTE)(q, k)


def of(method):
    """The spec, the score and the codebook of a method."""
    inference, position = METHODS[method]
    return arrays(inference), scored(position), codebook(method)

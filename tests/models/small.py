"""Models small enough to compile in a second, one for every positional prior."""

from functools import cache

import jax
import pytest

from windtunnel import models
from windtunnel.models import Shape, Transformer
from windtunnel.models.position import (
    T5,
    Alibi,
    Bam,
    Fire,
    Gaussian,
    GeneralizedGaussian,
    Kerple,
    Learned,
    PerHead,
    PerLayer,
    Randomised,
    Rope,
    Sinusoidal,
    Uniform,
    Xpos,
)
from windtunnel.spec import arrays

# A new positional prior is a row here: every test of the transformer then holds for it.
POSITIONS = {
    "uniform": Uniform(),
    "learned": Learned(),
    "sinusoidal": Sinusoidal(),
    "randomised": Randomised(range=16),
    "randomised_rope": Randomised(range=16, inner=Rope()),
    "rope": Rope(),
    "rope_yarn": Rope(scaling="yarn"),
    "xpos": Xpos(scale=8.0),
    "alibi": Alibi(),
    "gaussian": Gaussian(scale=3.0),
    "generalized_gaussian": GeneralizedGaussian(scale=3.0),
    "generalized_gaussian_fixed": GeneralizedGaussian(scale=3.0, beta=2.0, learn=False),
    "bam": Bam(),
    "bam_uniform": Bam(start="uniform", learn=("alpha", "beta", "mu")),
    "kerple": Kerple(),
    "t5": T5(),
    "fire": Fire(),
    "per_head": PerHead(heads=(Alibi(), T5())),
    "per_layer": PerLayer(layers=(Alibi(), Learned())),
}
# Of two that share their code, the fast tests ask one.
ALIKE = {"randomised_rope", "rope_yarn", "generalized_gaussian_fixed", "gaussian", "bam_uniform"}
FEATURES, OUTCOMES, LENGTH = 3, 4, 7


def rows(names):
    """These positions as parameters of a test, by their names."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in ALIKE)) for name in names]


@cache
def built(position, layers=2):
    """The module and its parameters, for sequences of 7 tokens of 3 features and 4 outcomes; nobody changes them."""
    spec = Transformer(layers=layers, heads=2, width=8, hidden=8)
    module = spec.build(arrays(position), Shape(FEATURES, 0, OUTCOMES, LENGTH), jax.random.key(0))
    return module, models.parameters(module)

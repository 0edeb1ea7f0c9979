"""Models small enough to compile in a second, one for every positional prior."""

import jax

from windtunnel import models
from windtunnel.models import Shape, Transformer
from windtunnel.models.position import Alibi, Bam, GeneralizedGaussian, Learned, PerLayer, Rope, Uniform
from windtunnel.spec import arrays

# A new positional prior is a row here: every test of the transformer then holds for it.
POSITIONS = {
    "uniform": Uniform(),
    "learned": Learned(),
    "rope": Rope(),
    "alibi": Alibi(),
    "generalized_gaussian": GeneralizedGaussian(scale=3.0),
    "generalized_gaussian_fixed": GeneralizedGaussian(scale=3.0, beta=2.0, learn=False),
    "bam": Bam(),
    "bam_uniform": Bam(start="uniform"),
    "per_layer": PerLayer(layers=(Alibi(), Learned())),
}
FEATURES, OUTCOMES, LENGTH = 3, 4, 7


def built(position, layers=2):
    """The module and its parameters, for sequences of 7 tokens of 3 features and 4 outcomes."""
    spec = Transformer(layers=layers, heads=2, width=8, hidden=8)
    module = spec.build(arrays(position), Shape(FEATURES, 0, OUTCOMES, LENGTH), jax.random.key(0))
    return module, models.parameters(module)

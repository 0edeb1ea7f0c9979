"""The models under test. Here are their specs; the modules are imported when one is built (flax takes half a second).

A model is used through two functions of plain pytrees: `build` makes the module, `split` its parameters.
"""

from typing import Annotated, Any, Literal, NamedTuple

from jaxtyping import Array
from pydantic import Field

from windtunnel.models.position import AnyPosition
from windtunnel.spec import Size, spec


class Shape(NamedTuple):
    """What a model must know of its tunnel: F or the vocabulary, V, and the tokens T of a training sequence."""

    features: int
    vocabulary: int
    outcomes: int
    length: int


@spec
class Transformer:
    """A pre-norm transformer of L layers, N heads, width D and an MLP of `hidden` units; with `loops`, the L layers
    are gone through so many times, with the same weights: depth without parameters.
    """

    name: Literal["transformer"] = "transformer"
    layers: Size = 1
    heads: Size = 2
    width: Size = 64
    hidden: Size = 128
    loops: Size = 1

    def build(self, position: AnyPosition, shape: Shape, key: Array) -> Any:
        from flax import nnx

        from windtunnel.models.transformer import Transformer as Module

        return Module(self, position, shape, nnx.Rngs(key))


AnyModel = Annotated[Transformer, Field()]


def parameters(module: Any) -> Any:
    """The module's learned parameters, as nested dicts of arrays."""
    from flax import nnx

    return nnx.to_pure_dict(nnx.state(module, nnx.Param))


def with_parameters(module: Any, params: Any) -> Any:
    """The module with these parameters in place of its own."""
    from flax import nnx

    graph, state, rest = nnx.split(module, nnx.Param, ...)
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state, rest)

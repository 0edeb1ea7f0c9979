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


class Model:
    """The contract. `build` makes a flax module that is called as `logits_BPV = model(inputs, at, *, key, tap)`."""

    heads: int = 0  # of attention: a model without any takes no position
    softmax: str = "plain"  # of attention

    @property
    def conflict(self) -> str | None:
        """What is wrong between fields that are each valid, as `key=value: …`; None where all is well."""
        return None

    def build(self, position: AnyPosition | None, shape: Shape, key: Array) -> Any:
        raise NotImplementedError


@spec
class Transformer(Model):
    """A pre-norm transformer of L layers, N heads, width D and an MLP of `hidden` units; with `loops`, the L layers
    are gone through so many times, with the same weights: depth without parameters.

    With a scalable `softmax` the score of a query to which n keys are visible is multiplied by s ln n, s learned per
    head (Nakanishi 2025), with the positional prior inside of that, or outside: added afterwards.
    """

    name: Literal["transformer"] = "transformer"
    layers: Size = 1
    heads: Size = 2  # pyrefly: ignore[bad-override]
    width: Size = 64
    hidden: Size = 128
    loops: Size = 1
    softmax: Literal["plain", "scalable_outside", "scalable_inside"] = "plain"  # pyrefly: ignore[bad-override]

    @property
    def conflict(self) -> str | None:
        return f"heads={self.heads}: must divide model.width={self.width}" if self.width % self.heads else None

    def build(self, position: AnyPosition | None, shape: Shape, key: Array) -> Any:
        from flax import nnx

        from windtunnel.models.transformer import Transformer as Module

        assert position is not None  # the door made sure
        return Module(self, position.bound(self.width, shape.length), shape, nnx.Rngs(key))


@spec
class Gru(Model):
    """L gated recurrent layers, of as many units as the width D."""

    name: Literal["gru"] = "gru"
    layers: Size = 3
    width: Size = 136

    def build(self, position: AnyPosition | None, shape: Shape, key: Array) -> Any:
        from flax import nnx

        from windtunnel.models.recurrent import Gru as Layer
        from windtunnel.models.stack import Stack

        return Stack(Layer, self, shape, nnx.Rngs(key))


@spec
class Lstm(Model):
    """L layers of long short-term memory, of as many units as the width D."""

    name: Literal["lstm"] = "lstm"
    layers: Size = 3
    width: Size = 118

    def build(self, position: AnyPosition | None, shape: Shape, key: Array) -> Any:
        from flax import nnx

        from windtunnel.models.recurrent import Lstm as Layer
        from windtunnel.models.stack import Stack

        return Stack(Layer, self, shape, nnx.Rngs(key))


@spec
class Ssm(Model):
    """L selective state spaces of 2D channels with N states each."""

    name: Literal["ssm"] = "ssm"
    layers: Size = 3
    width: Size = 128
    states: Size = 8

    def build(self, position: AnyPosition | None, shape: Shape, key: Array) -> Any:
        from flax import nnx

        from windtunnel.models.ssm import Selective as Layer
        from windtunnel.models.stack import Stack

        return Stack(Layer, self, shape, nnx.Rngs(key))


@spec
class Mlp(Model):
    """The last `window` tokens side by side, then L residual MLPs of `hidden` units and width D."""

    name: Literal["mlp"] = "mlp"
    layers: Size = 3
    width: Size = 96
    hidden: Size = 320
    window: Size = 16

    def build(self, position: AnyPosition | None, shape: Shape, key: Array) -> Any:
        from flax import nnx

        from windtunnel.models.mlp import Mlp as Module

        return Module(self, shape, nnx.Rngs(key))


AnyModel = Annotated[Transformer | Gru | Lstm | Ssm | Mlp, Field(discriminator="name")]


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

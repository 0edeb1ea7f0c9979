"""The models under test. Here are their specs; the modules are imported when one is built (flax takes half a second).

A spec's `build` makes the module; `parameters` and `with_parameters` (`parameters.py`) take its parameters out and put
others in.
"""

from typing import Annotated, Any, Literal, NamedTuple

from jaxtyping import Array

from windtunnel.models.parameters import parameters, with_parameters
from windtunnel.models.position import AnyPosition
from windtunnel.spec import Family, Size, spec


class Shape(NamedTuple):
    """What a model must know of its tunnel: F or the vocabulary, V, and the tokens T of a training sequence."""

    features: int
    vocabulary: int
    outcomes: int
    length: int


class Model:
    """The contract. `build` makes a flax module, called as `logits_BPV = model(inputs, tokens, *, key, tap, readings)`:
    logits at `tokens`, ascending. `key` is given while training; a `tap` looks in (`tap.py`); how attention was
    computed is added to the list `readings`.
    """

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def layers(self) -> int:
        raise NotImplementedError

    @property
    def width(self) -> int:
        raise NotImplementedError

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


MODELS = Family(Model, Transformer, Gru, Lstm, Ssm, Mlp)
AnyModel = Annotated[Model, MODELS]

__all__ = [
    "MODELS",
    "AnyModel",
    "Gru",
    "Lstm",
    "Mlp",
    "Model",
    "Shape",
    "Ssm",
    "Transformer",
    "parameters",
    "with_parameters",
]

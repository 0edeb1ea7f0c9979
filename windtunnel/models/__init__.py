"""The specs of the models under test. Their modules are imported only when one is built: flax takes half a second.

A spec's `build` makes the module. `parameters` and `with_parameters` (`parameters.py`) read and replace its parameters.
"""

from typing import Annotated, Any, Literal, NamedTuple

from jaxtyping import Array

from windtunnel.models.inference import EXACT, AnyInference, Inference
from windtunnel.models.parameters import parameters, with_parameters
from windtunnel.models.position import AnyPosition
from windtunnel.spec import Family, Size, spec


class Shape(NamedTuple):
    """What a model must know of its tunnel: the features F of a token or the vocabulary of tokens (the other is 0), the
    outcomes V, and the tokens T of a training sequence.
    """

    features: int
    vocabulary: int
    outcomes: int
    length: int


class Model:
    """The contract. `build` makes a flax module, called as `logits_BPV = model(inputs, tokens, *, key, tap, readings)`:
    logits at `tokens`, which ascend. `key` is given in training only. A `tap` (`tap.py`) sees what the model computes.
    A `Reading` of how attention was computed is appended to the list `readings`.
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

    heads: int = 0  # of attention; a model without attention takes no position
    softmax: str = "plain"  # of attention
    inference: Inference = EXACT  # of attention

    @property
    def conflict(self) -> str | None:
        """What is wrong between fields that are valid each by itself, as `key=value: …`; None if nothing is."""
        return None

    def build(self, position: AnyPosition | None, shape: Shape, key: Array) -> Any:
        raise NotImplementedError


@spec
class Transformer(Model):
    """A pre-norm transformer of L layers, N heads, width D and an MLP of `hidden` units. The L layers are applied
    `loops` times with the same weights, which adds depth without parameters.

    With a scalable `softmax`, the score of a query that sees n keys is multiplied by s ln n, s learned per head
    (Nakanishi 2025). `scalable_inside` multiplies the positional prior too; `scalable_outside` adds it afterwards.
    `inference` is how attention infers over long sequences (`inference.py`).
    """

    name: Literal["transformer"] = "transformer"
    layers: Size = 1
    heads: Size = 2  # pyrefly: ignore[bad-override]
    width: Size = 64
    hidden: Size = 128
    loops: Size = 1
    softmax: Literal["plain", "scalable_outside", "scalable_inside"] = "plain"  # pyrefly: ignore[bad-override]
    inference: AnyInference = EXACT  # pyrefly: ignore[bad-override]

    @property
    def conflict(self) -> str | None:
        return f"heads={self.heads}: must divide model.width={self.width}" if self.width % self.heads else None

    def build(self, position: AnyPosition | None, shape: Shape, key: Array) -> Any:
        from flax import nnx

        from windtunnel.models.transformer import Transformer as Module

        assert position is not None  # validated by config.py
        return Module(self, position.bound(self.width, shape.length), shape, nnx.Rngs(key))


@spec
class Gru(Model):
    """L layers of D gated recurrent units."""

    name: Literal["gru"] = "gru"
    layers: Size = 3
    width: Size = 136

    def build(self, position: AnyPosition | None, shape: Shape, key: Array) -> Any:
        from flax import nnx

        from windtunnel.models.recurrent import Gru as Layer
        from windtunnel.models.residual import Residual

        return Residual(Layer, self, shape, nnx.Rngs(key))


@spec
class Lstm(Model):
    """L layers of D long short-term memory units."""

    name: Literal["lstm"] = "lstm"
    layers: Size = 3
    width: Size = 118

    def build(self, position: AnyPosition | None, shape: Shape, key: Array) -> Any:
        from flax import nnx

        from windtunnel.models.recurrent import Lstm as Layer
        from windtunnel.models.residual import Residual

        return Residual(Layer, self, shape, nnx.Rngs(key))


@spec
class Ssm(Model):
    """L selective state spaces of 2D channels with `states` states each."""

    name: Literal["ssm"] = "ssm"
    layers: Size = 3
    width: Size = 128
    states: Size = 8

    def build(self, position: AnyPosition | None, shape: Shape, key: Array) -> Any:
        from flax import nnx

        from windtunnel.models.residual import Residual
        from windtunnel.models.ssm import Selective as Layer

        return Residual(Layer, self, shape, nnx.Rngs(key))


@spec
class Mlp(Model):
    """The concatenated embeddings of the last `window` tokens, then L residual MLPs of `hidden` units and width D."""

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

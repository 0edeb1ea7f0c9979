"""The contract of a model, which its spec keeps: what a study names, and what builds the flax module."""

from importlib import import_module
from typing import Annotated, Any, ClassVar, NamedTuple

from jaxtyping import Array
from pydantic import Field

from windtunnel.models.inference import EXACT, Inference
from windtunnel.models.position import AnyPosition
from windtunnel.spec import Knob, NonNegative, spec


class Shape(NamedTuple):
    """What a model must know of its tunnel: the features F of a token or the vocabulary of tokens (the other is 0), the
    outcomes V, and the tokens T of a training sequence.
    """

    features: int
    vocabulary: int
    outcomes: int
    length: int


@spec
class Depth:
    """Iterate until the predictives settle: until the KL between two iterations is below `tolerance` (bits), at most so
    often.
    """

    max_iterations: Annotated[int, Field(ge=1, lt=2**31), Knob] = 100
    tolerance: NonNegative = 1e-4


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

    module: ClassVar[str]  # its flax module: file and class in this package
    residual: ClassVar[bool] = False  # whether that is one layer, of which `layers` stand in a residual stream
    heads: int = 0  # of attention; a model without attention takes no position
    positional: ClassVar[bool] = True  # whether one with attention takes a position; else it has its own
    softmax: str = "plain"  # of attention
    depth: Depth | None = None  # iterates until predictives settle; else computes a fixed number of layers
    inference: Inference = EXACT  # of attention
    anneals: ClassVar[bool] = False  # whether its module takes `progress`, the share of training that is done
    gates: int = 0  # how many parts of the model a gate weighs, which a tap sees as `gate`
    by_evidence: ClassVar[bool] = False  # whether it must see every outcome as the token after its prediction

    @property
    def weights(self) -> int:
        """How many parameters there are at the least, from the sizes alone."""
        return 0

    @property
    def conflict(self) -> str | None:
        """What is wrong between fields that are valid each by itself, as `key=value: …`; None if nothing is."""
        return uneven(self)

    def build(self, position: AnyPosition | None, shape: Shape, key: Array) -> Any:
        """The flax module, freshly initialised: `module`, or a residual stream through layers of it. Imported here
        alone: flax takes half a second.
        """
        from flax import nnx

        from windtunnel.models.residual import Residual

        file, _, name = self.module.partition(".")
        own = getattr(import_module(f"windtunnel.models.{file}"), name)
        return Residual(own, self, shape, nnx.Rngs(key)) if self.residual else own(self, shape, nnx.Rngs(key))


def uneven(model: Model) -> str | None:
    """Why heads cannot share the width."""
    if model.heads and model.width % model.heads:
        return f"heads={model.heads}: must divide model.width={model.width}"
    return None

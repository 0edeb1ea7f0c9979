"""The specs of the models under test. `parameters` and `with_parameters` read and replace the parameters of one that is
built.
"""

from typing import Annotated, Any, Literal

from jaxtyping import Array
from pydantic import Field

from windtunnel.models.base import Depth, Model, Shape, uneven
from windtunnel.models.inference import EXACT, AnyInference
from windtunnel.models.parameters import parameters, with_parameters
from windtunnel.models.position import AnyPosition, OfLayer
from windtunnel.models.position.additive import GeneralizedGaussian, Uniform
from windtunnel.models.stateful import Gru, Lstm, Ssd, Ssm
from windtunnel.spec import Family, Knob, Size, spec


@spec
class Router:
    """A gate over so many groups of heads of the top layer, learned from the `content` of tokens or computed by Bayes'
    rule from the `evidence` of the heads' own normalisers; not `routed`, it weighs nothing.
    """

    groups: Size = 2
    routed: bool = True
    by: Literal["content", "evidence"] = "content"


@spec
class Transformer(Model):
    """A pre-norm transformer of L layers, N heads, width D and an MLP of `hidden` units. The L layers are applied
    `loops` times with the same weights, which adds depth without parameters. With `depth` they are applied until the
    predictives settle, and trained with 1 … `loops` iterations.

    With a scalable `softmax`, the score of a query that sees n keys is multiplied by s ln n, s learned per head
    (Nakanishi 2025). `scalable_inside` multiplies the positional prior too; `scalable_outside` adds it afterwards.
    `inference` is how attention infers over long sequences (`inference.py`). A `router` weighs groups of heads. A gated
    `embedding` of features can multiply one by a function of another; of tokens there is none.
    """

    name: Literal["transformer"] = "transformer"
    layers: Size = 1
    heads: Size = 2  # pyrefly: ignore[bad-override]
    width: Size = 64
    hidden: Size = 128
    loops: Size = 1
    softmax: Literal["plain", "scalable_outside", "scalable_inside"] = "plain"  # pyrefly: ignore[bad-override]
    depth: Depth | None = None  # pyrefly: ignore[bad-override]
    inference: AnyInference = EXACT  # pyrefly: ignore[bad-override]
    router: Router | None = None
    embedding: Literal["linear", "gated"] = "linear"

    @property
    def gates(self) -> int:  # pyrefly: ignore[bad-override]
        return 0 if self.router is None else self.router.groups

    @property
    def weights(self) -> int:
        return self.layers * self.width * (4 * self.width + 2 * self.hidden)

    @property
    def conflict(self) -> str | None:
        if self.router is not None and self.heads % self.router.groups:
            return f"router.groups={self.router.groups}: must divide model.heads={self.heads}"
        if self.router is not None and self.depth is not None:
            return "router: adaptive depth iterates its layers and shows no gate; valid with model.depth=null"
        return uneven(self)

    def build(self, position: AnyPosition | None, shape: Shape, key: Array) -> Any:
        from flax import nnx

        from windtunnel.models.transformer import Transformer as Module

        assert position is not None  # the door made sure
        return Module(self, position.bound(self.width, shape.length), shape, nnx.Rngs(key))


@spec
class Mlp(Model):
    """The concatenated embeddings of the last `window` tokens, then L residual MLPs of `hidden` units and width D."""

    name: Literal["mlp"] = "mlp"
    module = "mlp.Mlp"
    layers: Size = 3
    width: Size = 96
    hidden: Size = 320
    window: Size = 16

    @property
    def weights(self) -> int:
        return self.layers * 2 * self.width * self.hidden


@spec
class Belief(Model):
    """Recurrent attention: N `chains` of beliefs over M `slots`, each token's posterior the next token's prior."""

    name: Literal["belief"] = "belief"
    module = "belief.Belief"
    width: Size = 64
    chains: Size = 1
    slots: Size = 3
    transition: Literal["fixed", "content"] = "fixed"

    @property
    def layers(self) -> int:
        return 1

    @property
    def conflict(self) -> str | None:
        return f"chains={self.chains}: must divide model.width={self.width}" if self.width % self.chains else None


@spec
class Segments(Model):
    """A transformer of L layers over segments of so many tokens, which hands on `memory` tokens from each to the
    next.
    """

    name: Literal["segments"] = "segments"
    module = "segments.Segments"
    layers: Size = 2
    heads: Size = 2  # pyrefly: ignore[bad-override]
    width: Size = 64
    hidden: Size = 128
    segment: Size = 8
    memory: Size = 4
    positional = False


@spec
class Feedback(Model):
    """L layers whose keys and values come from the top states of the last `window` tokens. Computed token after token;
    with `depth` all tokens at once until they settle, trained with 1 … `loops` iterations.
    """

    name: Literal["feedback"] = "feedback"
    module = "feedback.Feedback"
    layers: Size = 2
    heads: Size = 2  # pyrefly: ignore[bad-override]
    width: Size = 64
    hidden: Size = 128
    window: Size = 4
    loops: Size = 8
    depth: Depth | None = None  # pyrefly: ignore[bad-override]
    positional = False


@spec
class Memory(Model):
    """L layers of attention to the last `window` tokens (0: none) and an external memory: `slots` that are erased and
    added to, or for each head a matrix by the delta rule.
    """

    name: Literal["memory"] = "memory"
    module = "memory.Memory"
    residual = True
    layers: Size = 1
    heads: Size = 2  # pyrefly: ignore[bad-override]
    width: Size = 64
    hidden: Size = 128
    window: Annotated[int, Field(ge=0)] = 0
    store: Literal["slots", "delta"] = "slots"
    slots: Size = 8
    positional = False


@spec
class Experts(Model):
    """K transformers of L layers, N heads and width D, each with its own positional prior (`positions`), weighed by the
    evidence that they have gathered. `switching`: where another expert may take over. Evidence counts by a factor that
    rises to 1 over the first `annealing` of the training steps (0: at once).
    """

    name: Literal["experts"] = "experts"
    module = "experts.Experts"
    positions: Annotated[tuple[OfLayer, ...], Field(min_length=1)] = (
        Uniform(),
        GeneralizedGaussian(scale=3.0, beta=1.0),
    )
    layers: Size = 3
    heads: Size = 2  # pyrefly: ignore[bad-override]
    width: Size = 22
    hidden: Size = 44
    switching: Literal["never", "at_starts", "anywhere"] = "never"
    annealing: Annotated[float, Field(ge=0, le=1), Knob] = 0.5
    positional = False
    anneals = True
    by_evidence = True

    @property
    def gates(self) -> int:  # pyrefly: ignore[bad-override]
        return len(self.positions)

    @property
    def expert(self) -> Transformer:
        """One of them, but for its position."""
        return Transformer(layers=self.layers, heads=self.heads, width=self.width, hidden=self.hidden)

    @property
    def weights(self) -> int:
        return self.gates * self.expert.weights


MODELS = Family(Model, Transformer, Gru, Lstm, Ssm, Ssd, Mlp, Belief, Segments, Feedback, Memory, Experts)
AnyModel = Annotated[Model, MODELS]


def takes_position(model: str) -> bool:
    """Whether the model of this name takes a positional prior. A name that does not exist is not for here to say."""
    return all(spec.heads > 0 and spec.positional for spec in MODELS.members if spec.name == model)


__all__ = [
    "MODELS",
    "AnyModel",
    "Belief",
    "Depth",
    "Experts",
    "Feedback",
    "Gru",
    "Lstm",
    "Memory",
    "Mlp",
    "Model",
    "Router",
    "Segments",
    "Shape",
    "Ssd",
    "Ssm",
    "Transformer",
    "parameters",
    "takes_position",
    "with_parameters",
]

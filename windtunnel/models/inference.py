"""How attention infers: exactly, or by an approximation that states how wrong it may be.

An approximation is used where a sequence is longer than `above` and the layer's positional prior allows it. Elsewhere
attention is exact, and its `Reading` says why. Modules are imported when they are used, as those of models are.
"""

from typing import Annotated, Any, Literal, NamedTuple

from jaxtyping import Array
from pydantic import Field

from windtunnel.models.position import Position
from windtunnel.spec import Family, Knob, spec

Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False), Knob]
Length = Annotated[int, Field(ge=0)]


class Approximate(NamedTuple):
    """What an approximation computes: the context [B, N, Q, d]; its own log Σ_j exp(score) [B, N, Q], never above the
    exact one by more than rounding unless the method says so; the share [B] of blocks that it did not read; and what it
    says of its own error, each number [B] by a name that says what it is.
    """

    context_BNQd: Array
    log_evidence_BNQ: Array
    skipped_B: Array
    certificates: dict[str, Array]


class Inference:
    """The contract."""

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def above(self) -> int:
        """A sequence of at most so many tokens is attended to exactly."""
        return 0

    def refusal(self, position: Position, softmax_inside: bool) -> str | None:
        """Why the method does not apply to attention with this positional prior; None where it does."""
        return None

    def codebook(self, heads: int, width: int) -> dict[str, tuple[int, ...]]:
        """The shapes of the codebook for heads of this width, by name; empty where there is none."""
        return {}

    def attend(self, q: Array, k: Array, v: Array, rows_Q: Any, score: Any, codebook: Any) -> Approximate:
        """Of sharpened queries at the ascending tokens `rows_Q`."""
        raise NotImplementedError


@spec
class Exact(Inference):
    """softmax(scores) v. Only what provably cannot matter is skipped."""

    name: Literal["exact"] = "exact"


EXACT = Exact()


@spec
class Sparse(Inference):
    """Keys are read block by block, the nearest first, until the prior of those left is at most `mass`, head by head.

    Where a head's attention is the posterior of a calibrated reasoner, the expected posterior mass of the keys that are
    not read *equals* their prior mass: E[Σ_{j skipped} α_ij] = Σ_{d ≥ δ} p(d).
    """

    name: Literal["sparse"] = "sparse"
    mass: Share = 1e-3
    above: Length = 4096  # pyrefly: ignore[bad-override]

    def refusal(self, position: Position, softmax_inside: bool) -> str | None:
        if not position.has_bias:
            return f"position {position.name} has no prior over distance whose tail could be cut"
        if not position.tabulated:
            return f"the prior of position {position.name} does not depend on distance alone"
        return "the softmax sharpens the prior with the length" if softmax_inside else None

    def attend(self, q: Array, k: Array, v: Array, rows_Q: Any, score: Any, codebook: Any) -> Approximate:
        from windtunnel.models.sparse import attend

        return attend(q, k, v, rows_Q, score, self.mass)


@spec
class Variational(Inference):
    """Far keys stand for their cell: at most `cells` of them, found by k-means in the metric of the queries, on
    sequences of the training horizon, once and after training. The codebook is kept beside the parameters and never
    fitted to what is read. Only for priors that are constant over far keys, since a cell has members at all distances.
    """

    name: Literal["variational"] = "variational"
    cells: Annotated[int, Field(ge=1, le=4096)] = 64
    max_iterations: Annotated[int, Field(ge=1, le=10_000)] = 100
    tolerance: Share = 1e-4
    above: Length = 4096  # pyrefly: ignore[bad-override]

    def refusal(self, position: Position, softmax_inside: bool) -> str | None:
        from windtunnel.models.blocks import CHUNK

        if position.rotates:
            return f"position {position.name} rotates keys, so that their cells move"
        flat = position.flat_beyond
        if position.has_bias and (flat is None or flat > CHUNK):
            return f"the prior of position {position.name} is not constant over far keys"
        return "the softmax sharpens the prior with the length" if softmax_inside and position.has_bias else None

    def codebook(self, heads: int, width: int) -> dict[str, tuple[int, ...]]:
        return {"centre": (heads, self.cells, width), "metric": (heads, width, width)}

    def attend(self, q: Array, k: Array, v: Array, rows_Q: Any, score: Any, codebook: Any) -> Approximate:
        from windtunnel.models.cells import attend

        return attend(q, k, v, rows_Q, score, codebook)


@spec
class Hierarchical(Inference):
    """Far keys stand for dyadic nodes of consecutive tokens with their exact prior mass, coarser the farther away; the
    nodes `near` to a query are refined, down to keys. A node has `fanout` children.
    """

    name: Literal["hierarchical"] = "hierarchical"
    near: Annotated[int, Field(ge=1, le=4096)] = 2
    fanout: Annotated[int, Field(ge=2, le=64)] = 2
    above: Length = 4096  # pyrefly: ignore[bad-override]

    def refusal(self, position: Position, softmax_inside: bool) -> str | None:
        if position.rotates:
            return f"position {position.name} rotates keys, whose mean then says nothing"
        if position.has_bias and not position.tabulated:
            return f"the prior of position {position.name} does not depend on distance alone"
        return "the softmax sharpens the prior with the length" if softmax_inside and position.has_bias else None

    def attend(self, q: Array, k: Array, v: Array, rows_Q: Any, score: Any, codebook: Any) -> Approximate:
        from windtunnel.models.nodes import attend

        return attend(q, k, v, rows_Q, score, self.near, self.fanout)


INFERENCES = Family(Inference, Exact, Sparse, Variational, Hierarchical)
AnyInference = Annotated[Inference, INFERENCES]

"""What a study is, its name, and the settings of a run. All of it comes in through the door (`door.py`)."""

import dataclasses
from dataclasses import replace
from typing import Annotated, Literal

import pydantic
import pydantic.dataclasses
from pydantic import Field

from windtunnel.cache import DEFAULT
from windtunnel.health import Monitor
from windtunnel.losses import AnyTerm
from windtunnel.models import AnyModel
from windtunnel.models.position import AnyPosition
from windtunnel.problem import Evaluate, Problem
from windtunnel.spec import Knob, NonNegative, Positive, Seed, Size, digest, identity, spec
from windtunnel.tunnels import AnyTunnel


@spec
class Em:
    """Attention read as soft EM: routing is the posterior over sources (the E step), content is what these say (the M
    step). Rates as multiples of what they would be: `routing` of what makes scores (W_Q, W_K and what is learned of the
    positional prior), `value` of W_V, `output` of W_O. With `phase` > 0 the two alternate, so many steps each: first
    routing alone moves, then everything but routing.
    """

    routing: Positive = 1.0
    value: Positive = 1.0
    output: Positive = 1.0
    phase: Annotated[int, Field(ge=0, lt=2**31), Knob] = 0


Terms = Annotated[dict[str, AnyTerm], Field(exclude_if=lambda terms: not terms)]
Watched = Annotated[Monitor, Field(exclude_if=lambda monitor: monitor == Monitor())]


@spec
class Train:
    """How a model is trained: `steps` batches, drawn fresh, of `horizon` observations (null: all the tunnel holds).

    `posterior` supervision is cross-entropy to the exact predictive, `sample` to the drawn outcome. They have the
    same expected gradient; the first lacks the noise of sampling. The rate warms up over `warmup` of the steps and
    then falls along a cosine to zero. With `muon`, `learning_rate` is that of the hidden matrices and
    `adam_rate` × `learning_rate` that of everything else. `em` gives parts of attention a rate or phases of their
    own; `terms` are losses beside cross-entropy, by name (`losses.py`).
    """

    steps: Size = 1000
    batch: Size = 32
    horizon: Size | None = None
    supervision: Literal["posterior", "sample"] = "posterior"
    optimizer: Literal["muon", "adamw", "sgd"] = "muon"
    learning_rate: Positive = 0.05
    adam_rate: Positive = 0.25
    em: Em = Em()
    terms: Terms = dataclasses.field(default_factory=dict)
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    weight_decay: NonNegative = 0.0
    clip: Positive = 1.0


@spec
class Study:
    """One trained model against one exact posterior."""

    tunnel: AnyTunnel
    model: AnyModel
    position: AnyPosition | None = None
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    seed: Seed = 0
    monitor: Watched = Monitor()

    @property
    def horizon(self) -> int:
        """The longest training sequence, in observations."""
        horizon = self.train.horizon or self.tunnel.capacity
        assert horizon is not None  # the door made sure
        return horizon

    @property
    def problem(self) -> Problem:
        """What is asked, without the model that answers."""
        return Problem(tunnel=self.tunnel, horizon=self.horizon, evaluate=self.evaluate)


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class Probe:
    """Instruments while a study trains: every so many steps (null: never)."""

    every: Annotated[int, Field(ge=1)] | None = None


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class Settings:
    """What a run needs beside the study: where records go, how often a pack is checkpointed, who takes part, and what
    flags ask for.
    """

    runs: str = "runs"
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 30.0
    question: str | None = None
    plugins: tuple[str, ...] = ()
    probe: Probe = Probe()
    distributed: bool = False
    tracker: Literal["tensorboard", "trackio", "wandb"] | None = None
    compilation_cache: str | None = DEFAULT
    twin: Literal["half"] | None = None
    fail_fast: bool = False
    force: bool = False
    dry_run: bool = False


SETTINGS = frozenset(field.name for field in dataclasses.fields(Settings))


def study_id(study: Study) -> str:
    """The name of a study: readable, then a hash of everything that shapes its parameters (not how it is judged)."""
    train = replace(study.train, horizon=study.horizon)
    resolved = replace(study, train=train, evaluate=Evaluate(), monitor=study.monitor.shaping)
    parts = [study.tunnel.name, study.position.name if study.position else study.model.name, f"seed{study.seed}"]
    return "-".join([*parts, digest(identity(resolved))])


def evaluate_id(judged: Study | Problem) -> str:
    return digest(identity(judged.evaluate))

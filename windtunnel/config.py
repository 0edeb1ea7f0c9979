"""The study, and the door through which every configuration comes in: validated once, trusted ever after."""

import dataclasses
import itertools
import math
import typing
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any, Literal

import pydantic
import pydantic.dataclasses
from pydantic import Field

from windtunnel import trackers
from windtunnel.cache import DEFAULT
from windtunnel.errors import BadInput, no_such
from windtunnel.losses import AnyTerm
from windtunnel.models import AnyModel
from windtunnel.models.position import AnyPosition, PerHead, PerLayer, per_layer
from windtunnel.plugins import load
from windtunnel.problem import Evaluate, Problem
from windtunnel.spec import Family, Knob, NonNegative, Positive, Seed, Size, adapter, digest, identity, spec
from windtunnel.tunnels import AnyTunnel, Tunnel


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


MOST_TOKENS = 2**31  # tokens are numbered with 32 bits; what is shorter is a matter of memory
SETTINGS = frozenset(field.name for field in dataclasses.fields(Settings))


def door(plain: dict[str, Any]) -> tuple[Study, Settings]:
    """The door, for a whole composed configuration."""
    try:
        settings = Settings(**{key: value for key, value in plain.items() if key in SETTINGS})
    except pydantic.ValidationError as error:
        raise BadInput(_one_line(error)) from None
    if not settings.runs.strip():
        raise BadInput("runs=: should be a folder, as in runs=runs")
    trackers.check(settings.tracker)
    return study({key: value for key, value in plain.items() if key not in SETTINGS}, settings.plugins), settings


def study(plain: dict[str, Any], plugins: Iterable[str] = ()) -> Study:
    """The door: a plain dict to a validated `Study`, or `BadInput` with one line. Plugins are loaded before."""
    load(plugins)
    if isinstance(plain.get("tunnel"), dict):
        plain = {**plain, "tunnel": _sized(plain["tunnel"])}
    checked = _validated(Study, plain)
    _agree(checked)
    return checked


def problem(plain: dict[str, Any], plugins: Iterable[str] = ()) -> Problem:
    """The same door, for a problem alone."""
    load(plugins)
    checked = _validated(Problem, plain)
    _agree_on_problem(checked)
    return checked


def _validated(cls: type, plain: dict[str, Any]) -> Any:
    try:
        checked = adapter(cls).validate_python(plain)
    except pydantic.ValidationError as error:
        raise BadInput(_one_line(error, cls)) from None
    if truth := _truth_for_number(plain, checked):
        raise BadInput(f"{truth}: should be a number")
    return checked


def _truth_for_number(plain: Any, checked: Any, key: str = "") -> str | None:
    """The first key that was given true or false, and is a number: pydantic takes them for 1 and 0."""
    if isinstance(plain, bool) and not isinstance(checked, bool):
        return f"{key}={str(plain).lower()}"
    parts: list[tuple[Any, Any, str]] = []
    if isinstance(plain, dict):
        of = checked if isinstance(checked, dict) else {name: getattr(checked, name, None) for name in plain}
        parts = [(value, of.get(name), ".".join(filter(None, (key, str(name))))) for name, value in plain.items()]
    elif isinstance(plain, (list, tuple)) and isinstance(checked, (list, tuple)):
        parts = [(*pair, f"{key}.{index}") for index, pair in enumerate(zip(plain, checked, strict=False))]
    return next((wrong for part in parts if (wrong := _truth_for_number(*part))), None)


def _sized(tunnel: dict[str, Any]) -> dict[str, Any]:
    """Resolve `hypotheses`, the one way to set the size of any finite hypothesis space, into the field it stands for.

    A size that is null is the tunnel's own default.
    """
    spec = next((spec for spec in _specs(AnyTunnel) if spec.name == tunnel.get("name")), None)
    if spec is None or spec.size is None:
        return tunnel
    given = {key: value for key, value in tunnel.items() if key not in ("hypotheses", spec.size) or value is not None}
    if "hypotheses" not in given:
        return given
    wanted = given.pop("hypotheses")
    if spec.size in given:
        raise BadInput(
            f"tunnel.hypotheses={wanted}: tunnel.{spec.size}={given[spec.size]} sets it already; give one of the two"
        )
    field = pydantic.TypeAdapter(typing.get_type_hints(spec, include_extras=True)[spec.size]).json_schema()
    sizes = {spec.count(size): size for size in range(field["minimum"], field["maximum"] + 1)}
    if isinstance(wanted, bool) or not isinstance(wanted, (int, float)) or not math.isfinite(wanted):
        raise BadInput(f"tunnel.hypotheses={wanted}: should be a whole number; valid: {_listed(list(sizes))}")
    if wanted not in sizes:
        number = wanted
        nearest = [
            max((n for n in sizes if n <= number), default=None),
            min((n for n in sizes if n > number), default=None),
        ]
        known = " and ".join(f"{count}" if count < 10**18 else f"{count:.3g}" for count in nearest if count is not None)
        raise BadInput(f"tunnel.hypotheses={wanted}: {spec.name} has no such size; the nearest: {known}")
    return {**given, spec.size: sizes[wanted]}


def _listed(numbers: list[int]) -> str:
    """`2, 6, 24, …, 5.11e+25`"""
    few = [*map(str, numbers[:3]), "…", f"{numbers[-1]:.3g}"]
    return ", ".join(few if len(numbers) > 4 else map(str, numbers))


def study_id(study: Study) -> str:
    """The name of a study: readable, then a hash of everything that shapes its parameters (not how it is judged)."""
    resolved = replace(study, train=replace(study.train, horizon=study.horizon), evaluate=Evaluate())
    parts = [study.tunnel.name, study.position.name if study.position else study.model.name, f"seed{study.seed}"]
    return "-".join([*parts, digest(identity(resolved))])


def evaluate_id(judged: Study | Problem) -> str:
    return digest(identity(judged.evaluate))


def _agree(study: Study) -> None:
    """The rules that hold between fields."""
    tunnel, model, position, train = study.tunnel, study.model, study.position, study.train
    if tunnel.conflict is not None:
        raise BadInput(f"tunnel.{tunnel.conflict}")
    if train.horizon is None and tunnel.capacity is None:
        raise BadInput(f"train.horizon=null: {tunnel.name} has no longest sequence, so give a number of observations")
    _agree_on_problem(study.problem)
    if model.conflict is not None:
        raise BadInput(f"model.{model.conflict}")
    for number, own in enumerate(getattr(model, "positions", ())):
        if (conflict := own.conflict(model.width // model.heads, tunnel.tokens(study.problem.length))) is not None:
            raise BadInput(f"model.positions.{number}{conflict}")
    if model.by_evidence and not shows_outcomes(tunnel):
        raise BadInput(
            f"model={model.name}: weighs by the evidence of outcomes, and inputs of {tunnel.name} do not show each "
            "outcome as the token after its prediction"
        )
    _agree_on_terms(study)
    if not model.heads and train.em != Em():
        raise BadInput(f"train.em: model {model.name} has no attention to route by")
    if not takes_position(model.name):
        if position is not None:
            takers = ", ".join(spec.name for spec in _specs(AnyModel) if takes_position(spec.name))
            raise BadInput(f"position={position.name}: model {model.name} takes none (valid with model={takers})")
        return
    if position is None:
        raise BadInput(f"position=null: model {model.name} needs one; valid: {', '.join(names(AnyPosition))}")
    conflict = position.conflict(model.width // model.heads, tunnel.tokens(study.problem.length))
    if conflict is not None:
        raise BadInput(f"position{conflict}")
    if isinstance(position, PerLayer) and len(position.layers) != model.layers:
        raise BadInput(
            f"position.layers: lists {len(position.layers)} positions, and the model has model.layers={model.layers}"
        )
    for one in per_layer(position, model.layers):
        if isinstance(one, PerHead) and len(one.heads) != model.heads:
            raise BadInput(
                f"position.heads: lists {len(one.heads)} positions, and the model has model.heads={model.heads}"
            )
    inference: Any = model.inference
    if inference.codebook(1, 1):
        refusals = [
            inference.refusal(one, model.softmax == "scalable_inside") for one in per_layer(position, model.layers)
        ]
        if None not in refusals:
            raise BadInput(f"model.inference={inference.name}: {refusals[0]}; valid: uniform, learned, sinusoidal, t5")
        tokens = tunnel.tokens(study.horizon)
        if tokens > inference.above:
            raise BadInput(
                f"model.inference.above={inference.above}: a codebook is fitted after training, so training is exact; "
                f"give at least the {tokens} tokens of the horizon"
            )
    if model.softmax == "scalable_inside" and not any(one.has_bias for one in per_layer(position, model.layers)):
        raise BadInput(
            f"model.softmax=scalable_inside: position={position.name} adds no prior to the score that could be inside; "
            "valid: plain, scalable_outside"
        )


def shows_outcomes(tunnel: Tunnel) -> bool:
    """Whether the token after each prediction is the outcome, under its own number (or says that something begins)."""
    token_V = tunnel.outcome_tokens
    if token_V is None or list(token_V) != list(range(tunnel.outcomes)):
        return False
    return all(after - at == 1 for at, after in itertools.pairwise(tunnel.scored(min(3, tunnel.capacity or 3))))


def _agree_on_terms(study: Study) -> None:
    for name, term in study.train.terms.items():
        if term.by_domain and type(study.tunnel).log_domains is Tunnel.log_domains:
            takers = ", ".join(spec.name for spec in _specs(AnyTunnel) if spec.log_domains is not Tunnel.log_domains)
            raise BadInput(f"train.terms.{name}: {study.tunnel.name} has no domains (valid with tunnel={takers})")
        if (refusal := term.refusal(study)) is not None:
            raise BadInput(f"train.terms.{name}: {refusal}")


def _agree_on_problem(problem: Problem) -> None:
    tunnel, capacity, hops = problem.tunnel, problem.tunnel.capacity, problem.evaluate.hops
    if problem.length >= MOST_TOKENS:
        raise BadInput(
            f"evaluate.reach={problem.evaluate.reach:g}: sequences of {problem.length:,} observations cannot be "
            f"numbered; at most {MOST_TOKENS:,}"
        )
    if hops is not None and tunnel.asking(hops) is None:
        takers = ", ".join(spec.name for spec in _specs(AnyTunnel) if spec.asking is not Tunnel.asking)
        raise BadInput(f"evaluate.hops={hops}: questions of {tunnel.name} ask for no hops (valid with tunnel={takers})")
    if capacity is not None and problem.horizon > capacity:
        raise BadInput(f"train.horizon={problem.horizon}: {tunnel.name} holds at most {capacity} observations")
    if capacity is not None and problem.length > capacity:
        most = capacity / problem.horizon
        raise BadInput(
            f"evaluate.reach={problem.evaluate.reach:g}: {tunnel.name} holds at most {capacity} observations, "
            f"a reach of {most:g} at horizon {problem.horizon}"
        )


def takes_position(model: str) -> bool:
    """Whether the model of this name takes a positional prior. A name that does not exist is not for here to say."""
    return all(spec.heads > 0 and spec.positional for spec in _specs(AnyModel) if spec.name == model)


def names(union: Any) -> list[str]:
    """The names of the specs that a union is made of."""
    return [member.name for member in _specs(union)]


def _specs(hint: Any) -> list[Any]:
    """The specs that a type is built from."""
    if dataclasses.is_dataclass(hint):
        return [hint]
    if isinstance(hint, Family):
        return hint.members
    parts = typing.get_args(hint)
    families = [part for part in parts if isinstance(part, Family)]  # beside the base class, which is none of them
    return [spec for part in families or parts for spec in _specs(part)]


def _is_mapping(hint: Any) -> bool:
    """Whether a field of this type holds specs by names that the user gives."""
    return typing.get_origin(hint.__origin__ if typing.get_origin(hint) is Annotated else hint) is dict


def _one_line(error: pydantic.ValidationError, root: Any = None) -> str:
    """The first thing that is wrong, in one line: the key, the value, what would be valid."""
    first = error.errors(include_url=False)[0]
    path: list[str] = []
    specs: list[Any] = [root or Study]
    owner: Any = specs[0]
    in_mapping = False
    for part in first["loc"]:
        chosen = [spec for spec in specs if getattr(spec, "name", None) == part and not in_mapping]
        if chosen:  # pydantic puts the name of a union's member into the path; the user did not write it
            specs, owner = chosen, chosen[0]
            continue
        path.append(str(part))
        if specs and not isinstance(part, int) and not in_mapping:  # neither an index nor a name leads to another spec
            hint = typing.get_type_hints(specs[0], include_extras=True).get(part)
            owner, specs, in_mapping = specs[0], _specs(hint), _is_mapping(hint)
        else:
            in_mapping = False
    key, kind, value = ".".join(path), first["type"], first["input"]
    if kind == "unexpected_keyword_argument":
        return f"{key}: {no_such(path[-1], [field.name for field in dataclasses.fields(owner)])}"
    if kind == "union_tag_invalid":
        return f"{key}={value['name']}: {no_such(value['name'], [spec.name for spec in specs])}"
    if kind == "union_tag_not_found":
        return f"{key}: has no name; valid: {', '.join(spec.name for spec in specs)}"
    if kind.startswith("missing"):
        return f"{key}: missing"
    shown = value.get("name", value) if isinstance(value, dict) else "null" if value is None else value
    return f"{key}={shown}: {first['msg'].replace('Input should', 'should')}"

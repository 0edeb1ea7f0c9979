"""The block `bayesian_attention`: the configuration that production is said to want, translated into ordinary keys.

    prior_type                               position
    prior_params.beta                        position.beta
    prior_params.scale                       position.scale, from horizons to tokens
    hypothesis_space.dimension               model.width, the keys of all heads together
    hypothesis_space.orthogonality_threshold monitor.orthogonality_rms, 1 − RMS cosine between keys, at least
    convergence.max_iterations, .tolerance   model.depth.max_iterations, .tolerance

It is a translation and nothing else: a study that it sets up has the name of the same study written out. A key that is
null sets nothing. A key that somebody set by hand beside the block, to another value, is refused.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

import pydantic
import pydantic.dataclasses
from pydantic import Field

from windtunnel import door
from windtunnel.config import Train
from windtunnel.errors import BadInput
from windtunnel.models import MODELS, takes_position
from windtunnel.models.position import AnyPosition
from windtunnel.priors import Prior
from windtunnel.spec import Positive, Size, members, spec
from windtunnel.tunnels import AnyTunnel

NAME = "bayesian_attention"
KEYS = {
    "prior_type": "position.name",
    "prior_params.beta": "position.beta",
    "prior_params.scale": "position.scale",
    "hypothesis_space.dimension": "model.width",
    "hypothesis_space.orthogonality_threshold": "monitor.orthogonality_rms",
    "convergence.max_iterations": "model.depth.max_iterations",
    "convergence.tolerance": "model.depth.tolerance",
}
GROUPS = ("tunnel", "prior", "model", "train")  # whose presets say what a key is where nobody sets it
LOOPS = 4  # where a preset applies layers once, they are trained with 1 … so many iterations, as in model=adaptive
FIELDS = {prior.name: [field.name for field in dataclasses.fields(prior)] for prior in members(Prior)}

part = pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))


@part
class PriorParams:
    """−(d / scale)^beta, of a distance d; `scale` counts horizons."""

    beta: Positive | None = None
    scale: Positive | None = None


@part
class HypothesisSpace:
    """`dimension` of the keys of all heads together; `orthogonality_threshold` of 1 − RMS cosine between keys."""

    dimension: Size | None = None
    orthogonality_threshold: Annotated[float, Field(ge=0, le=1)] | None = None


@part
class Convergence:
    """Iterate until the predictives of two iterations differ by less than `tolerance` (bits), at most so often."""

    max_iterations: Size | None = None
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


@part
class Block:
    prior_type: Literal["uniform", "gaussian", "generalized_gaussian"] | None = None
    prior_params: PriorParams | None = None
    hypothesis_space: HypothesisSpace | None = None
    convergence: Convergence | None = None


@part
class Configuration:
    """What of a configuration is the block: so errors name its keys in full."""

    bayesian_attention: Block | None = None


@spec
class Asked:
    """What says how many tokens a horizon has."""

    tunnel: AnyTunnel
    train: Train = Train()


def translated(plain: dict[str, Any], overrides: Sequence[str], choices: Mapping[str, Any]) -> dict[str, Any]:
    """A composed configuration with ordinary keys in place of the block. `overrides` are what was typed, `choices` the
    presets of all groups.
    """
    plain = dict(plain)
    given = values(plain.pop(NAME, None))
    if not given:
        return plain
    _refuse_unfit(plain, given)
    wanted = {KEYS[key]: value for key, value in given.items()}
    if "position.scale" in wanted:
        wanted["position.scale"] = _tokens(plain, wanted["position.scale"])
    files = _files(_hydra(), tuple(f"{group}={choices[group]}" for group in GROUPS if choices.get(group)))
    typed = {re.split("[=@]", one.lstrip("+~"))[0] for one in overrides}
    for block_key, value in given.items():
        key = KEYS[block_key]
        there = _at(plain, key)
        if there != wanted[key] and _by_hand(key, plain, files, typed):
            raise BadInput(
                f"{key.removesuffix('.name')}={_shown(there)}: {NAME}.{block_key}={_shown(value)} sets it to "
                f"{_shown(wanted[key])}; give one of the two"
            )
    if "position.name" in wanted and _at(plain, "position.name") != wanted["position.name"]:
        plain["position"] = {}
    iterates = any(key.startswith("model.depth") for key in wanted)
    if iterates and _at(files, "model.loops") == 1 and not _by_hand("model.loops", plain, files, typed):
        plain = _with(plain, ["model", "loops"], LOOPS)
    for key, value in wanted.items():
        plain = _with(plain, key.split("."), value)
    return plain


def values(plain: Any) -> dict[str, Any]:
    """{`prior_params.beta`: 1.5, …}: what the block sets, checked key by key."""
    block = door.validated(Configuration, {NAME: plain}).bayesian_attention
    parts = {} if block is None else dataclasses.asdict(block)
    flat = {key: value for key, value in parts.items() if not isinstance(value, dict)}
    nested = {f"{key}.{name}": value for key, of in parts.items() if isinstance(of, dict) for name, value in of.items()}
    return {key: value for key, value in {**flat, **nested}.items() if value is not None}


def _refuse_unfit(plain: dict[str, Any], given: dict[str, Any]) -> None:
    """What this model, or this prior, has no place for. A model that does not exist is for the door to refuse."""
    model, name = _model(plain), _at(plain, "model.name")
    if model is None:
        return

    def refuse(key: str, why: str) -> None:
        raise BadInput(f"{NAME}.{key}={_shown(given[key])}: {why}; give {NAME}.{key}=null")

    for key in given:
        if key.startswith("prior") and not takes_position(model.name):
            refuse(key, f"model {name} takes no position")
        if key == "hypothesis_space.dimension" and not model.heads:
            refuse(key, f"model {name} has no attention, and so no keys")
        if key.startswith("convergence") and "depth" not in {field.name for field in dataclasses.fields(model)}:
            refuse(key, f"model {name} does not iterate (valid with model=adaptive, feedback_adaptive)")
    heads = _at(plain, "model.heads")
    dimension = given.get("hypothesis_space.dimension")
    if dimension is not None and isinstance(heads, int) and heads > 0 and dimension % heads:
        raise BadInput(f"{NAME}.hypothesis_space.dimension={dimension}: should be a multiple of model.heads={heads}")
    prior = given.get("prior_type", _at(plain, "position.name"))
    for key in ("beta", "scale"):
        if f"prior_params.{key}" in given and key not in FIELDS.get(prior, []):
            refuse(f"prior_params.{key}", f"{'prior_type' if 'prior_type' in given else 'position'}={prior} has none")


def _model(plain: dict[str, Any]) -> Any:
    return next((model for model in MODELS.members if model.name == _at(plain, "model.name")), None)


def _tokens(plain: dict[str, Any], horizons: float) -> float:
    """A length in horizons, in tokens: to twelve digits, so that 0.1 of 28 is the 2.8 that somebody would write."""
    parts = {key: plain.get(key) for key in ("tunnel", "train")}
    if isinstance(parts["tunnel"], dict):
        parts["tunnel"] = door.sized(parts["tunnel"])
    asked = door.validated(Asked, parts)
    horizon = asked.train.horizon or asked.tunnel.capacity
    if horizon is None:
        raise BadInput(f"train.horizon=null: {NAME}.prior_params.scale={horizons:g} is in horizons; give one")
    return float(f"{horizons * horizon * each(asked.tunnel):.12g}")


def each(tunnel: Any) -> int:
    """The tokens of an observation."""
    return tunnel.tokens(2) - tunnel.tokens(1)


def _by_hand(key: str, plain: dict[str, Any], files: dict[str, Any], typed: set[str]) -> bool:
    """Whether somebody set the key: typed it, or changed in a file of their own what the chosen presets say."""
    owner = key.removesuffix(".name")
    if owner in typed or any(key.startswith(f"{one}.") for one in typed if one not in ("position", *GROUPS)):
        return True
    position = _at(plain, "position.name")
    if key != "position.name" and owner.startswith("position.") and position != _at(files, "position.name"):
        spec = next((spec for spec in members(AnyPosition) if spec.name == position), None)
        fields = dataclasses.fields(spec) if spec is not None else ()
        return _at(plain, key) not in (None, *(field.default for field in fields if f"position.{field.name}" == key))
    return _at(plain, key) != _at(files, key)


def _hydra() -> Any:
    from hydra.core.global_hydra import GlobalHydra

    return GlobalHydra.instance().hydra


@lru_cache(maxsize=16)
def _files(hydra: Any, chosen: tuple[str, ...]) -> dict[str, Any]:
    """What the files of the chosen presets say, with nothing else that was typed. `hydra` is of this command alone."""
    from hydra import compose
    from omegaconf import OmegaConf

    config: Any = OmegaConf.to_container(compose("config", overrides=list(chosen)), resolve=False)
    return config


def _at(plain: Any, key: str) -> Any:
    for name in key.split("."):
        plain = plain.get(name) if isinstance(plain, dict) else None
    return plain


def _with(plain: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    inner = plain.get(path[0])
    return {**plain, path[0]: _with(inner if isinstance(inner, dict) else {}, path[1:], value) if path[1:] else value}


def _shown(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def own(config: Any) -> Any:
    """The block of a composed configuration, as plain as it is there."""
    from omegaconf import OmegaConf

    there = config.get(NAME)
    return OmegaConf.to_container(there, resolve=True) if OmegaConf.is_config(there) else there

"""Configurations composed by Hydra and validated at the door, as on the command line, for use from Python."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from windtunnel.block import translated
from windtunnel.config import Settings, Study
from windtunnel.door import configuration
from windtunnel.errors import BadInput
from windtunnel.models import takes_position
from windtunnel.plugins import load
from windtunnel.presets import folder


def compose(overrides: Sequence[str] = ()) -> tuple[Study, Settings]:
    """The default study with these overrides, and its settings; `BadInput` in one line if they are not valid."""
    return configuration(plain(overrides))


def plain(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The composed configuration as `door.configuration` takes it."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from windtunnel.messages import one_line

    try:
        with initialize_config_dir(str(folder()), version_base="1.3"):
            config = compose("config", overrides=list(overrides), return_hydra_config=True)
            return as_plain(config, overrides, config.hydra.runtime.choices)
    except (HydraException, OmegaConfBaseException) as error:
        raise BadInput(one_line(error, list(overrides))) from None


def typed(hydra: Any) -> list[str]:
    """The overrides in Hydra's own part of a configuration, as typed: omegaconf's list would resolve `${…}` in them."""
    from omegaconf import OmegaConf

    overrides: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    return overrides


def as_plain(config: Any, overrides: Sequence[str], choices: Mapping[str, Any]) -> dict[str, Any]:
    """A composed configuration without Hydra's own settings. `choices` are the presets it was composed from, by group.

    A part that comes from a plug-in may say so beside its name, as in `position: {name: cauchy, plugin: cauchy.py}`:
    each file of a configuration then brings its own, and all of them are added to `plugins`.

    The block `bayesian_attention` becomes the ordinary keys that it stands for (`block.py`).

    The presets of tunnels name a position for the models that take one. If the model takes none, that position is left
    out; a position among the `overrides` stays, and `door.configuration` refuses it.
    """
    from omegaconf import OmegaConf

    def resolved(key: Any) -> Any:
        value = "???" if OmegaConf.is_missing(config, key) else config[key]
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value

    plain: Any = {key: resolved(key) for key in config if key != "hydra"}  # which holds a hundred interpolations
    if isinstance(plain.get("plugins"), list):  # else the door says what is wrong
        plain["plugins"] = list(dict.fromkeys([*plain["plugins"], *_taken_out(plain)]))
        load(map(str, plain["plugins"]))
    plain = translated(plain, overrides, choices)
    asked = any(re.match(r"[+~]*position\b", override) for override in overrides)
    model = plain.get("model")
    if not asked and isinstance(model, dict) and not takes_position(str(model.get("name"))):
        plain["position"] = None
    return plain


def _taken_out(part: Any, key: str = "") -> list[str]:
    """Remove the key `plugin` from nested dicts and lists, and return its values."""
    if isinstance(part, list):
        return [name for index, entry in enumerate(part) for name in _taken_out(entry, f"{key}{index}.")]
    if not isinstance(part, dict):
        return []
    own = [part.pop("plugin")] if "plugin" in part else []
    if own and not isinstance(own[0], str):
        raise BadInput(f"{key}plugin={own[0]}: should be a file or a module")
    return own + [name for inner, entry in part.items() for name in _taken_out(entry, f"{key}{inner}.")]

"""Configurations composed by Hydra and validated by `config.door`, as on the command line, for use from Python."""

import re
from collections.abc import Sequence
from typing import Any

from windtunnel.config import Settings, Study, door, takes_position
from windtunnel.errors import BadInput
from windtunnel.presets import folder


def compose(overrides: Sequence[str] = ()) -> tuple[Study, Settings]:
    """The default study with these overrides, and its settings; `BadInput` in one line if they are not valid."""
    return door(plain(overrides))


def plain(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The composed configuration as `config.door` takes it."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from windtunnel.messages import one_line

    try:
        with initialize_config_dir(str(folder()), version_base="1.3"):
            return as_plain(compose("config", overrides=list(overrides)), overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise BadInput(one_line(error, list(overrides))) from None


def as_plain(config: Any, overrides: Sequence[str]) -> dict[str, Any]:
    """A composed configuration without Hydra's own settings.

    The presets of tunnels name a position for the models that take one. If the model takes none, that position is left
    out; a position among the `overrides` stays, and `config.door` refuses it.
    """
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(config, resolve=True)
    plain.pop("hydra", None)
    typed = any(re.match(r"[+~]*position\b", override) for override in overrides)
    if not typed and not takes_position(plain["model"]["name"]):
        plain["position"] = None
    return plain

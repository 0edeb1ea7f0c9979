"""Configurations as the command line composes them, for Python: Hydra, and then the door."""

import re
from collections.abc import Sequence
from typing import Any

from windtunnel.config import Settings, Study, door, takes_position
from windtunnel.errors import BadInput
from windtunnel.presets import folder


def compose(overrides: Sequence[str] = ()) -> tuple[Study, Settings]:
    """The study that these overrides make of the default one; `BadInput` in one line where they do not."""
    return door(plain(overrides))


def plain(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The composed configuration as the door takes it."""
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
    """A composed configuration without what is Hydra's own.

    The presets of tunnels name a position for the models that have one. Where the model has none, such a position is
    left out; one that is among the `overrides` stays, and the door refuses it.
    """
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(config, resolve=True)
    plain.pop("hydra", None)
    asked = any(re.match(r"[+~]*position\b", override) for override in overrides)
    if not asked and not takes_position(plain["model"]["name"]):
        plain["position"] = None
    return plain

"""Composing the points of a multirun: files are read and merged once for each choice of files, not for each point."""

import copy
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import OmegaConf


def compose_faster(loader: Any) -> None:
    """Hydra composes every point of a multirun twice, to see whether it can be composed and to run it, and each time
    reads and merges every file. Points that differ in values alone (`tunnel.noise=0.1`, `seed=3`) share what their
    files say, and their values are set on a copy of it, as Hydra sets them.
    """
    compose, parser = loader.load_sweep_config, OverridesParser.create()
    bases: dict[tuple[str, ...], Any] = {}
    points: dict[tuple[str, ...], Any] = {}

    def chooses(override: Override) -> bool:
        return loader.repository.group_exists(override.key_or_group)

    def sets(override: Override) -> bool:
        changes = override.type == OverrideType.CHANGE and override.package is None
        return changes and not override.is_sweep_override() and not override.key_or_group.startswith("hydra.")

    def composed(master_config: Any, sweep_overrides: list[str]) -> Any:
        overrides = parser.parse_overrides(sweep_overrides)
        values = [override for override in overrides if not chooses(override)]
        if not all(sets(override) for override in values):  # what adds or removes a key does so in its turn
            return compose(master_config, sweep_overrides)
        files = tuple(line for line, one in zip(sweep_overrides, overrides, strict=True) if chooses(one))
        if files not in bases:
            bases[files] = compose(master_config, list(files))
        point = copy.deepcopy(bases[files])
        for override in values:
            OmegaConf.update(point, override.key_or_group, override.value(), merge=True)
        return point

    def load_sweep_config(master_config: Any, sweep_overrides: list[str]) -> Any:
        key = tuple(sweep_overrides)
        if key not in points:
            try:
                points[key] = composed(master_config, sweep_overrides)
            except Exception:  # whatever it is, Hydra says it as ever
                points[key] = compose(master_config, sweep_overrides)
        return points[key]

    loader.load_sweep_config = load_sweep_config

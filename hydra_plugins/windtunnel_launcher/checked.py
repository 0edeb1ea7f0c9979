"""Hydra finds sweepers only in this namespace: a sweeper like Hydra's own, that hands over to `windtunnel.sweep`."""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep

MOST = 100_000  # points of a sweep: Hydra writes them all down before anybody can refuse


class CheckedSweeper(BasicSweeper):
    @staticmethod
    def split_arguments(overrides: list[Override], max_batch_size: int | None) -> Any:
        from windtunnel.errors import BadInput

        points = 1.0
        for override in overrides:
            sweep = override.value() if override.is_sweep_override() else None
            if isinstance(sweep, RangeSweep) and sweep.step:
                points *= max(0.0, ((sweep.stop or 0) - (sweep.start or 0)) / sweep.step)
            elif isinstance(sweep, ChoiceSweep):
                points *= len(sweep.list)
            if not points <= MOST:
                raise BadInput(f"{override.input_line}: makes {points:.3g} points; a sweep has at most {MOST:,}")
        return BasicSweeper.split_arguments(overrides, max_batch_size)

    def validate_batch_is_legal(self, batch: Any) -> None:
        from hydra_plugins.windtunnel_launcher.packed import PackedLauncher
        from windtunnel.sweep.launcher import compose_all

        if isinstance(self.launcher, PackedLauncher):
            return  # it does so itself
        compose_all(self.config, self.hydra_context.config_loader, batch)  # type: ignore[union-attr]

"""Hydra finds sweepers only in this namespace: a sweeper like Hydra's own, that hands over to `windtunnel.sweep`."""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class CheckedSweeper(BasicSweeper):
    def validate_batch_is_legal(self, batch: Any) -> None:
        from hydra_plugins.windtunnel_launcher.packed import PackedLauncher
        from windtunnel.sweep.launcher import compose_all

        if isinstance(self.launcher, PackedLauncher):
            return  # it does so itself
        compose_all(self.config, self.hydra_context.config_loader, batch)  # type: ignore[union-attr]

"""Hydra finds launchers only in this namespace: these lines hand over to `windtunnel.sweep`."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher


class PackedLauncher(Launcher):
    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        from windtunnel.sweep.composing import compose_faster

        self.loader, self.config = hydra_context.config_loader, config
        compose_faster(self.loader)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from windtunnel.sweep.launcher import launch

        return launch(self.config, self.loader, job_overrides)


class PackedSlurmLauncher(PackedLauncher):
    def __init__(self, **options: Any):  # Hydra passes them; they are read from the configuration
        pass

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from windtunnel.sweep.cluster import launch

        return launch(self.config, self.loader, job_overrides)

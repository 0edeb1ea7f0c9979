"""The packed launcher: receives all points of a multirun at once, so that studies of one structure share a program."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, filter_overrides

from windtunnel.compose import as_plain
from windtunnel.config import SETTINGS, Settings, door
from windtunnel.errors import BadInput, StudyFailed
from windtunnel.spec import digest


def here(points: list, root: Path, settings: Settings, fixed: dict[str, Any] | None) -> bool:
    """Run the points in this process, or in all processes of a distributed run."""
    from windtunnel.sweep.processes import together
    from windtunnel.sweep.run import run

    return together(settings, lambda: run(points, root, settings, fixed))


def launch(
    config: Any, loader: Any, job_overrides: Sequence[Sequence[str]], execute: Callable[..., bool] = here
) -> list[JobReturn]:
    """Compose and validate every point, then have them executed in packs."""
    composed = [loader.load_sweep_config(config, list(overrides)) for overrides in job_overrides]
    validated = [door(as_plain(point, job)) for point, job in zip(composed, job_overrides, strict=True)]
    from windtunnel.sweep.folder import fixed_part, folder_for, swept, twins  # late: bad input is refused before that

    overrides = [dict(item.split("=", 1) for item in filter_overrides(job)) for job in job_overrides]
    settings = validated[0][1]
    studies = [study for study, _ in validated]
    fixed = fixed_part(studies)
    name = config.hydra.runtime.choices.get("sweep") or f"multirun-{digest(fixed)}"
    root = folder_for(Path(settings.runs) / name, studies, fixed, settings.force)
    points = swept(root, studies, overrides)
    if not execute([*points, *(twins(points) if settings.twin else [])], root, settings, fixed):
        raise StudyFailed
    return [JobReturn(overrides=list(job), cfg=point, status=JobStatus.COMPLETED, _return_value=None)
            for job, point in zip(job_overrides, composed, strict=True)]  # fmt: skip


def single(config: Any) -> None:
    """Run one study, as a pack of one. Launchers other than ours call this for each point of a multirun."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    study, settings = door(as_plain(config, hydra.overrides.task))
    multirun = hydra.mode == RunMode.MULTIRUN
    if multirun and settings.force:
        launcher = hydra.runtime.choices.get("hydra/launcher")
        raise BadInput(f"--force: hydra/launcher={launcher} runs every point on its own; give another runs=… instead")
    from windtunnel.sweep.folder import fixed_part, folder_for
    from windtunnel.sweep.point import Point

    name, overrides = "single", {}
    if multirun:
        name = hydra.runtime.choices.get("sweep") or "multirun"
        given = dict(item.split("=", 1) for item in filter_overrides(hydra.overrides.task))
        overrides = {key: value for key, value in given.items() if key not in {"+sweep", *SETTINGS}}
    fixed = fixed_part([study]) if multirun and name != "multirun" else None
    root = folder_for(Path(settings.runs) / name, [study], fixed, settings.force)
    if not here([Point(study, overrides)], root, settings, None):
        raise StudyFailed

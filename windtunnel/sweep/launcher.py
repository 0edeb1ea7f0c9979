"""The packed launcher: receives all points of a multirun at once, so that studies of one structure share a program."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from windtunnel.compose import as_plain, typed
from windtunnel.config import SETTINGS, Settings, Study
from windtunnel.door import configuration
from windtunnel.errors import EXPECTED, BadInput, StudyFailed, Unexpected
from windtunnel.messages import one_line
from windtunnel.spec import digest


def here(points: list, root: Path, settings: Settings, fixed: dict[str, Any] | None) -> bool:
    """Run the points in this process, or in all processes of a distributed run."""
    from windtunnel.sweep.processes import together
    from windtunnel.sweep.run import run

    return together(settings, lambda: run(points, root, settings, fixed))


def begun(execute: Callable[..., bool], *arguments: Any) -> bool:
    """Execute what was validated; an error that nobody expects is none of the input."""
    try:
        return execute(*arguments)
    except EXPECTED:
        raise
    except Exception as error:
        raise Unexpected from error


def compose_all(
    config: Any, loader: Any, job_overrides: Sequence[Sequence[str]]
) -> tuple[list[Any], list[tuple[Study, Settings]]]:
    """Compose and validate every point; what holds for the whole run must be the same for all."""
    if not job_overrides:
        raise BadInput(
            f"{_nothing(config, loader)}: a sweep over nothing; every range, choice and glob must have a value"
        )
    composed, validated = [], []
    for job in job_overrides:
        try:
            composed.append(loader.load_sweep_config(config, list(job)))
        except (HydraException, OmegaConfBaseException) as error:
            raise BadInput(one_line(error, list(job))) from None
        choices, first = composed[-1].hydra.runtime.choices, composed[0].hydra.runtime.choices
        if choices.get("sweep") != first.get("sweep"):
            raise BadInput(f"+sweep={first.get('sweep')},{choices.get('sweep')}: one at a time")
        validated.append(configuration(as_plain(composed[-1], job, composed[-1].hydra.runtime.choices)))
        for key in SETTINGS - {"plugins"}:  # each part of a configuration brings its own
            if getattr(validated[-1][1], key) != getattr(validated[0][1], key):
                raise BadInput(f"{key}: is one for the whole run, and cannot be swept")
    return composed, validated


def _nothing(config: Any, loader: Any) -> str:
    """What was typed and has no value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    given = OverridesParser.create(config_loader=loader).parse_overrides(typed(config.hydra))
    none = [one.input_line for one in given if one.is_sweep_override() and not list(one.sweep_string_iterator())]
    return str(none[0]) if none else "-m"


def launch(
    config: Any, loader: Any, job_overrides: Sequence[Sequence[str]], execute: Callable[..., bool] = here
) -> list[JobReturn]:
    """Compose and validate every point, then have them executed in packs."""
    composed, validated = compose_all(config, loader, job_overrides)
    from windtunnel.sweep.folder import fixed_part, folder_for, swept, twins  # late: bad input is refused before that
    from windtunnel.sweep.notice import announce

    overrides = [dict(item.split("=", 1) for item in filter_overrides(job)) for job in job_overrides]
    settings = validated[0][1]
    studies = [study for study, _ in validated]
    fixed = fixed_part(studies)
    name = config.hydra.runtime.choices.get("sweep") or f"multirun-{digest(fixed)}"
    root = folder_for(Path(settings.runs) / name, studies, fixed, settings.force)
    points = swept(root, studies, overrides)
    announce(composed, studies)
    if not begun(execute, [*points, *(twins(points) if settings.twin else [])], root, settings, fixed):
        raise StudyFailed
    return [JobReturn(overrides=list(job), cfg=point, status=JobStatus.COMPLETED, _return_value=None)
            for job, point in zip(job_overrides, composed, strict=True)]  # fmt: skip


def single(config: Any) -> None:
    """Run one study, as a pack of one. Launchers other than ours call this for each point of a multirun."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    study, settings = configuration(as_plain(config, typed(hydra), hydra.runtime.choices))
    multirun = hydra.mode == RunMode.MULTIRUN
    if multirun and settings.force:
        launcher = hydra.runtime.choices.get("hydra/launcher")
        raise BadInput(f"--force: hydra/launcher={launcher} runs every point on its own; give another runs=… instead")
    from windtunnel.sweep.folder import fixed_part, folder_for
    from windtunnel.sweep.notice import announce
    from windtunnel.sweep.point import Point

    name, overrides = "single", {}
    if multirun:
        name = hydra.runtime.choices.get("sweep") or "multirun"
        given = dict(item.split("=", 1) for item in filter_overrides(typed(hydra)))
        overrides = {key: value for key, value in given.items() if key not in {"+sweep", *SETTINGS}}
    fixed = fixed_part([study]) if multirun and name != "multirun" else None
    root = folder_for(Path(settings.runs) / name, [study], fixed, settings.force)
    announce([config], [study])
    if not begun(here, [Point(study, overrides)], root, settings, None):
        raise StudyFailed

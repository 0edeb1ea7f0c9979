"""The record of a study before it trains: the study itself, the facts that tables show, and what it runs on."""

import math
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from windtunnel import __version__, plugins, records
from windtunnel.config import Study, study_id
from windtunnel.problem import Problem
from windtunnel.records import Json, shapes
from windtunnel.records.door import sealed
from windtunnel.records.shapes import misfit
from windtunnel.spec import plain
from windtunnel.sweep.point import Point


def write_study(folder: Path, point: Point, pack: dict[str, Any]) -> None:
    """`study.json`: the resolved study, its pack, the facts that tables show, and the software and hardware."""
    study = point.study
    records.write_sealed(
        folder / "study.json",
        {
            "study": plain(study),
            "overrides": point.overrides,
            "plugins": plugins.sources(study),
            "pack": pack,
            "facts": {
                **facts_of_problem(study.problem),
                "position": study.position.name if study.position else None,
                "model": study.model.name,
                "softmax": getattr(study.model, "softmax", None),
                "supervision": study.train.supervision,
                "seed": study.seed,
                "steps": study.train.steps,
            },
            **environment(),
        },
    )


def brought_up(folder: Path, study: Study) -> Json | None:
    """`study.json` of this folder. One that an older version wrote is written again as this one would, if it is indeed
    that of the study that the folder is named after; None where there is none, or it is damaged.
    """
    path = folder / "study.json"
    try:
        return records.read_study(folder)
    except records.Older:
        record = records.read_json(path)
        same = isinstance(record.get("study"), dict) and {**record["study"], "evaluate": None} == {
            **plain(study),
            "evaluate": None,
        }
        whole = sealed({**record, "schema": records.SCHEMA, "study_id": folder.name})
        if not same or study_id(study) != folder.name or misfit(whole, shapes.STUDY):
            return None
        records.write_sealed(path, {**record, "schema": records.SCHEMA})
        return records.read_study(folder)
    except records.Damaged:
        return None


def facts_of_problem(problem: Problem) -> dict[str, Any]:
    """The facts that tables show about a problem."""
    tunnel = problem.tunnel
    return {
        "tunnel": tunnel.name,
        "hypotheses": tunnel.hypotheses if tunnel.hypotheses < math.inf else "inf",
        "noise": getattr(tunnel, "noise", None),
        "prior": getattr(getattr(tunnel, "prior", None), "name", None),
        "horizon": problem.horizon,
    }


def environment() -> dict[str, Any]:
    """The software versions and the hardware that made a record."""
    device = jax.devices()[0]
    return {
        "versions": {name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
        | {"windtunnel": __version__, "python": platform.python_version()},
        "device": {"kind": device.device_kind, "platform": device.platform, "count": jax.device_count()},
        "git": git_revision(),
    }


def knobs_of(study: Study) -> list[Any]:
    """(path, value) of every knob."""
    return jax.tree_util.tree_flatten_with_path(study)[0]


@cache
def git_revision() -> str | None:
    """The revision of the code, where it runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None

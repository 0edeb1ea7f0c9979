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
from windtunnel.config import Study
from windtunnel.problem import Problem
from windtunnel.spec import plain
from windtunnel.sweep.point import Point


def write_study(folder: Path, point: Point, pack: dict[str, Any]) -> None:
    """`study.json`: the resolved study, its pack, the facts that tables show, and the software and hardware."""
    study = point.study
    records.write_json(
        folder / "study.json",
        {
            "schema": records.SCHEMA,
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

"""What is written down of a study before it trains: the study, the facts that tables show, and what it ran on."""

import math
import platform
import subprocess
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from windtunnel import __version__, plugins, records
from windtunnel.config import Study, study_id
from windtunnel.problem import Problem
from windtunnel.spec import plain


@dataclass(frozen=True)
class Point:
    """A study of a sweep, and the overrides that made it."""

    study: Study
    overrides: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return study_id(self.study)


def title(points: list[Point]) -> str:
    """What the studies of a pack have in common, in a few words."""
    shared = [f"{k}={v}" for k, v in points[0].overrides.items() if all(p.overrides.get(k) == v for p in points)]
    count = "1 study" if len(points) == 1 else f"{len(points)} studies"
    return f"{', '.join(shared) or points[0].study.tunnel.name} ({count})"


def write_study(folder: Path, point: Point, pack: dict[str, Any]) -> None:
    """`study.json`: the resolved study, the facts that tables show, and what it ran on, with which others."""
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
    """What tables show of a problem."""
    tunnel = problem.tunnel
    return {
        "tunnel": tunnel.name,
        "hypotheses": tunnel.hypotheses if tunnel.hypotheses < math.inf else "inf",
        "noise": getattr(tunnel, "noise", None),
        "prior": getattr(getattr(tunnel, "prior", None), "name", None),
        "horizon": problem.horizon,
    }


def environment() -> dict[str, Any]:
    """What a record was made with, and on."""
    device = jax.devices()[0]
    return {
        "versions": {name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
        | {"windtunnel": __version__, "python": platform.python_version()},
        "device": {"kind": device.device_kind, "platform": device.platform, "count": jax.device_count()},
        "git": git_revision(),
    }


def knobs_of(study: Study) -> list[Any]:
    return jax.tree_util.tree_flatten_with_path(study)[0]


@cache
def git_revision() -> str | None:
    """The revision of the code, where it runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None

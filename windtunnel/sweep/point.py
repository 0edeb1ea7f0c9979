"""A point of a sweep: one study, and the overrides that distinguish it from the other points."""

from dataclasses import dataclass, field

from windtunnel.config import Study, study_id


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

"""Trackers: services that get curves and verdicts in addition to the local records, which are always written.

Each study is one run, named after it; each sweep is one project or group. Trackers are optional dependencies. If one
fails while studies train (without a network, say), one line says so, it is not used any more, and training goes on.
"""

import contextvars
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from windtunnel.errors import BadInput

PROJECT = "windtunnel"


class Tracker(Protocol):
    """The interface of trackers. Several studies train at once, so every call names its study."""

    def __init__(self, root: Path): ...

    def begin(self, study: str, config: dict[str, Any]) -> None:
        """A study begins, or resumes after an interruption."""

    def log(self, study: str, step: int, numbers: dict[str, float]) -> None: ...

    def end(self, study: str) -> None: ...


class TensorBoard(Tracker):
    """Event files in `tensorboard/` within the sweep: `tensorboard --logdir runs/NAME/tensorboard`."""

    def __init__(self, root: Path):
        self.folder, self.writers = root / "tensorboard", dict[str, Any]()

    def begin(self, study: str, config: dict[str, Any]) -> None:
        from tensorboardX import SummaryWriter

        self.writers[study] = SummaryWriter(str(self.folder / study))
        self.writers[study].add_text("study", f"```\n{config}\n```")

    def log(self, study: str, step: int, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self.writers[study].add_scalar(name, value, step)
        self.writers[study].flush()

    def end(self, study: str) -> None:
        self.writers.pop(study).close()


class Trackio(Tracker):
    """One trackio project per sweep, on this machine unless trackio's own environment variables say otherwise."""

    def __init__(self, root: Path):
        self.project, self.runs = root.name, dict[str, Any]()

    def begin(self, study: str, config: dict[str, Any]) -> None:
        import trackio  # pyrefly: ignore[missing-import]

        def init() -> Any:
            return trackio.init(self.project, name=study, config=config, resume="allow", embed=False)

        self.runs[study] = contextvars.Context().run(init)  # in the same context it would end the previous run

    def log(self, study: str, step: int, numbers: dict[str, float]) -> None:
        self.runs[study].log(numbers, step=step)

    def end(self, study: str) -> None:
        self.runs.pop(study).finish()


class Wandb(Tracker):
    """One wandb group per sweep, in the project `windtunnel`. WANDB_MODE and wandb's other variables work as usual."""

    def __init__(self, root: Path):
        self.root, self.runs = root, dict[str, Any]()

    def begin(self, study: str, config: dict[str, Any]) -> None:
        import wandb  # pyrefly: ignore[missing-import]

        self.runs[study] = wandb.init(
            project=PROJECT,
            group=self.root.name,
            name=study,
            id=f"{self.root.name}-{study}",
            config=config,
            dir=str(self.root),
            resume="allow",
            reinit="create_new",  # so that several runs can be open at once
            settings=wandb.Settings(quiet=True),
        )

    def log(self, study: str, step: int, numbers: dict[str, float]) -> None:
        self.runs[study].log(numbers, step=step)

    def end(self, study: str) -> None:
        self.runs.pop(study).finish()


# {name: (the package, the tracker)}
TRACKERS: dict[str, tuple[str, type[Tracker]]] = {
    "tensorboard": ("tensorboardX", TensorBoard),
    "trackio": ("trackio", Trackio),
    "wandb": ("wandb", Wandb),
}


def check(name: str | None) -> None:
    """Refuse a tracker whose package is not installed, before anything trains."""
    if name is not None and importlib.util.find_spec(TRACKERS[name][0]) is None:
        package = TRACKERS[name][0]
        raise BadInput(f"tracker={name}: {package} is not installed (pip install 'windtunnel[{name}]')")


class Tracking:
    """The tracker of a run, if there is one. Its errors never reach the training."""

    def __init__(self, name: str | None, root: Path, say: Callable[[str], None]):
        self.name, self.say = name, say
        self.begun: set[str] = set()
        self.tracker: Tracker | None = None
        if name is not None:
            self._try(lambda: setattr(self, "tracker", TRACKERS[name][1](root)))

    def begin(self, study: str, config: dict[str, Any]) -> None:
        if self.tracker and study not in self.begun:
            self.begun.add(study)
            self._try(self.tracker.begin, study, config)

    def log(self, study: str, step: int, numbers: dict[str, float]) -> None:
        if self.tracker and numbers:
            self._try(self.tracker.log, study, step, numbers)

    def end(self, study: str) -> None:
        if self.tracker and study in self.begun:
            self.begun.remove(study)
            self._try(self.tracker.end, study)

    def _try(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:
            self.tracker = None
            self.say(f"tracker={self.name} is given up: {type(error).__name__}: {str(error).partition(chr(10))[0]}")

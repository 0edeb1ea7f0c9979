"""A pack on disk: while it trains a checkpoint to go on from, and a note of how far it is and what it has cost.

`packs/<digest of its studies>/` is the checkpoint; it goes when the pack has been split into its studies. The note
beside it, `packs/<digest>.json`, stays: `status` and the summary of a sweep read it.
"""

import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from windtunnel import checkpoint, records
from windtunnel.spec import digest

KEPT = ("what", "step", "steps", "steady_seconds")  # of a note, by the parts of a pack that is cut


class Training(NamedTuple):
    """Where a pack of S studies stands. Rows of a checkpoint are studies, without padding: it fits any devices."""

    state: Any  # every leaf [S, …]
    curves: dict[str, np.ndarray]  # the learning curves, float32[S, steps] each, NaN after what is done
    done: Any  # int32[], steps
    seconds: Any  # float32[], of training so far

    @property
    def steps(self) -> int:
        return next(iter(self.curves.values())).shape[1]


def blank(names: Iterable[str], studies: int, steps: int) -> dict[str, np.ndarray]:
    """Learning curves of a pack that has not begun."""
    return {name: np.full((studies, steps), np.nan, np.float32) for name in names}


class Saved:
    """The place of the pack that these studies train in."""

    def __init__(self, root: Path, ids: list[str]):
        self.root, self.ids = root, ids
        self.folder = root / "packs" / digest(ids)
        self.path = self.folder.with_suffix(".json")

    @property
    def exists(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return checkpoint.exists(self.folder)

    def save(self, training: Training) -> None:
        state = jax.tree.map(lambda leaf: np.asarray(leaf)[: len(self.ids)], training.state)
        checkpoint.save(self.folder, training._replace(state=state))
        self.note(saved=int(training.done))

    def load(self, like: Training) -> Training:
        """The checkpoint; the state of `like` may be padded."""
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(self.ids), *x.shape[1:]), x.dtype), like.state)
        return Training(*checkpoint.load(self.folder, like._replace(state=shapes)))

    def adopt(self, whole: list[str], like: Training) -> None:
        """Where these studies were saved within a larger pack of the `whole`, cut that in two and go on from there."""
        for studies in (note["studies"] for note in records.notes(self.root)):
            larger = Saved(self.root, studies)
            if not (set(self.ids) < set(studies) <= set(whole) and larger.exists):
                continue
            saved = larger.load(like._replace(curves=blank(like.curves, len(studies), like.steps)))
            for ids in (self.ids, [name for name in studies if name not in self.ids]):
                rows = np.asarray([studies.index(name) for name in ids])
                state = jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf)[rows], saved.state)
                part = Saved(self.root, ids)
                part.note(**{key: value for key, value in records.read_json(larger.path).items() if key in KEPT})
                curves = {name: np.asarray(curve)[rows] for name, curve in saved.curves.items()}
                part.save(saved._replace(state=state, curves=curves))
            larger.forget()

    def begin(self, steps: int) -> None:
        """The first note, unless there is a checkpoint to go on from: then what it says still holds."""
        blank = {} if self.exists else {"step": 0, "steps": steps, "saved": 0, "steady_seconds": 0.0}
        self.note(what="compiling", **blank)

    def note(self, **changed: Any) -> None:
        """Write down what has changed."""
        before = records.read_json(self.path) if self.path.exists() else {"compilations": 0, "compile_seconds": 0.0}
        worker = {"host": platform.node(), "process": os.getpid(), "time": time.time()}
        records.write_json(self.path, {"studies": self.ids, **before, **worker, **changed})

    def note_compilations(self, count: int, seconds: float) -> None:
        if count and self.path.exists():
            note = records.read_json(self.path)
            self.note(compilations=note["compilations"] + count, compile_seconds=note["compile_seconds"] + seconds)

    def remove(self) -> None:
        """Remove the checkpoint."""
        checkpoint.remove(self.folder)

    def forget(self) -> None:
        self.remove()
        self.path.unlink(missing_ok=True)


def cut_off(root: Path, ids: list[str]) -> list[list[str]]:
    """The packs within these studies that were cut off and can go on, each with its studies."""
    found: list[list[str]] = []
    noted: list[list[str]] = [note["studies"] for note in records.notes(root)]
    for studies in sorted(noted, key=len, reverse=True):
        if not set(studies) <= set(ids):
            continue
        if Saved(root, studies).exists and not any(set(studies) & set(other) for other in found):
            found.append(studies)
        else:  # it left nothing to go on from: these studies start again
            Saved(root, studies).forget()
    return found


def tidy(root: Path, ids: list[str]) -> None:
    """No note is left of a pack of these that came to nothing, because it was cut into parts."""
    for note in records.notes(root):
        if set(note["studies"]) <= set(ids) and note["what"] == "compiling":
            Saved(root, note["studies"]).forget()

"""A pack on disk: a checkpoint to resume its training from, and a note of its progress and its cost.

`packs/<digest of its studies>/` is the checkpoint; it is removed when every study has a checkpoint of its own. The note
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
from windtunnel.compiled import Cost
from windtunnel.spec import digest

KEPT = ("what", "step", "steps", "steady_seconds")  # the keys of a note that the parts of a split pack take over
BLANK = {"what": "compiling", "step": 0, "steps": 0, "saved": 0, "steady_seconds": 0.0, "compilations": 0,
         "found_compiled": 0, "compile_seconds": 0.0}  # fmt: skip


class Training(NamedTuple):
    """The progress of a pack of S studies. Checkpoints have a row for each study and no padding: any devices fit."""

    state: Any  # every leaf [S, …]
    curves: dict[str, np.ndarray]  # the learning curves, float32[S, steps] each, NaN for steps that are not done
    done: Any  # int32[], steps
    seconds: Any  # float32[], of training so far
    pack: Any = None  # uint8[L], on disk: the digest of its studies, since a folder may be moved

    @property
    def steps(self) -> int:
        return next(iter(self.curves.values())).shape[1]


def devices() -> str:
    """`2 cpu devices`: sums over other devices may have other last bits."""
    count = jax.device_count()
    return f"{count} {jax.default_backend()} device{'s' if count > 1 else ''}"


def blank(names: Iterable[str], studies: int, steps: int) -> dict[str, np.ndarray]:
    """The learning curves of a pack before its first step."""
    return {name: np.full((studies, steps), np.nan, np.float32) for name in names}


class Saved:
    """The checkpoint and the note of the pack of these studies."""

    def __init__(self, root: Path, ids: list[str]):
        self.root, self.ids = root, ids
        self.folder = root / "packs" / digest(ids)
        self.path = self.folder.with_suffix(".json")

    @property
    def exists(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return checkpoint.exists(self.folder)

    @property
    def devices(self) -> str | None:
        """What the checkpoint was computed on, if its note says so."""
        return (records.read_note(self.path) or {}).get("devices")

    def save(self, training: Training) -> None:
        state = jax.tree.map(lambda leaf: np.asarray(leaf)[: len(self.ids)], training.state)
        checkpoint.save(self.folder, training._replace(state=state, pack=self._pack))
        self.note(saved=int(training.done))

    def load(self, like: Training) -> Training:
        """The checkpoint, in the structure of `like`, whose state may be padded.

        Raises `Damaged` if it is another pack's: the checkpoints of two packs of one structure have the same shapes.
        """
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(self.ids), *x.shape[1:]), x.dtype), like.state)
        saved = Training(*checkpoint.load(self.folder, like._replace(state=shapes, pack=self._pack)))
        if not np.array_equal(saved.pack, self._pack):
            owner = bytes(np.asarray(saved.pack)).decode("ascii", "replace")
            raise records.Damaged(self.folder, f"it belongs to pack {owner}")
        return saved._replace(pack=None)

    @property
    def _pack(self) -> np.ndarray:
        return np.frombuffer(self.folder.name.encode(), np.uint8)

    def adopt(self, whole: list[str], like: Training) -> None:
        """If a larger pack within the `whole` was saved and holds these studies, split its checkpoint in two.

        One part is the checkpoint of these studies, the other that of the rest. A damaged one is set aside.
        """
        for note in records.notes(self.root):
            studies = note["studies"]
            larger = Saved(self.root, studies)
            if not (set(self.ids) < set(studies) <= set(whole) and larger.exists):
                continue
            try:
                saved = larger.load(like._replace(curves=blank(like.curves, len(studies), like.steps)))
            except records.Damaged:
                records.set_aside(larger.folder)
                continue
            for ids in (self.ids, [name for name in studies if name not in self.ids]):
                rows = np.asarray([studies.index(name) for name in ids])
                state = jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf)[rows], saved.state)
                part = Saved(self.root, ids)
                part.note(**{key: value for key, value in note.items() if key in KEPT})
                curves = {name: np.asarray(curve)[rows] for name, curve in saved.curves.items()}
                part.save(saved._replace(state=state, curves=curves))
            larger.forget()

    def begin(self, steps: int) -> None:
        """Write the first note. If there is a checkpoint to resume from, the progress that is noted still holds."""
        blank = {} if self.exists else {"step": 0, "saved": 0, "steady_seconds": 0.0}
        self.note(what="compiling", steps=steps, **blank)

    def note(self, **changed: Any) -> None:
        """Update the note with what has changed."""
        before = records.read_note(self.path) or BLANK
        worker = {"host": platform.node(), "process": os.getpid(), "time": time.time()}
        if "saved" in changed:
            changed["devices"] = devices()
        records.write_json(self.path, {"studies": self.ids, **before, **worker, **changed})

    def note_compilations(self, cost: Cost) -> None:
        if cost.seconds and (note := records.read_note(self.path)):
            self.note(
                compilations=note["compilations"] + cost.compilations,
                found_compiled=note.get("found_compiled", 0) + cost.found,
                compile_seconds=note["compile_seconds"] + cost.seconds,
            )

    def remove(self) -> None:
        """Remove the checkpoint."""
        checkpoint.remove(self.folder)

    def forget(self) -> None:
        """Remove the checkpoint and the note."""
        self.remove()
        self.path.unlink(missing_ok=True)


def cut_off(root: Path, ids: list[str]) -> list[list[str]]:
    """The packs within these studies that were interrupted and can be resumed, each with its studies."""
    packs: list[list[str]] = []
    noted: list[list[str]] = [note["studies"] for note in records.notes(root)]
    for studies in sorted(noted, key=len, reverse=True):
        if not set(studies) <= set(ids):
            continue
        if Saved(root, studies).exists and not any(set(studies) & set(other) for other in packs):
            packs.append(studies)
        else:  # it left no checkpoint, so these studies start again
            Saved(root, studies).forget()
    return packs


def tidy(root: Path, ids: list[str]) -> None:
    """Remove the notes of packs that were split before training."""
    for note in records.notes(root):
        if set(note["studies"]) <= set(ids) and note["what"] == "compiling":
            Saved(root, note["studies"]).forget()

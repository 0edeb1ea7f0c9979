"""Checkpoints of pytrees. No other module uses orbax."""

import logging
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from windtunnel.errors import BadInput, CannotWrite
from windtunnel.records.door import Damaged, digest

ROOM = 2**17  # bytes for the metadata of the arrays
_WHY = re.compile(r"[^:]*(?= \[os_error_code)")


def save(folder: Path, tree: Any) -> None:
    """Write a tree of arrays to `folder` atomically: the old checkpoint stays until the new one is complete.

    Raises `CannotWrite`. (By itself, orbax removes the old checkpoint first and takes minutes to notice a folder
    without permissions. On a full disk its threads print pages of errors, so the space is reserved first.)
    """
    new, old = _beside(folder, "new"), _beside(folder, "old")
    arrays = jax.tree.map(np.asarray, tree)
    try:
        _clear(folder)
        new.mkdir(parents=True)
        _check_room(new / "room", ROOM + sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)))
        new.rmdir()
        with _quiet() as ocp:
            ocp.save_pytree(new.absolute(), arrays)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        raise CannotWrite(folder, error.strerror) from None
    except ValueError as error:
        why = _WHY.search(str(error))
        if why is None:
            raise
        raise CannotWrite(folder, why[0].strip()) from None
    finally:
        _clear(folder)


def load(folder: Path, like: Any) -> Any:
    """The tree in `folder`, as numpy arrays; `like` has its structure, shapes and types.

    Raises `BadInput` if the saved tree has another structure, because another version of windtunnel saved it, and
    `Damaged` if it cannot be read or holds other shapes.
    """
    _settle(folder)
    abstract = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
    try:
        if not _whole(folder):
            raise Damaged(folder, "it is not whole" if folder.exists() else "it is not there")
        with _quiet() as ocp:
            tree = ocp.load_pytree(folder.absolute(), abstract)
    except Damaged:
        raise
    except Exception as error:  # whatever orbax and tensorstore say of what they cannot read
        if "structures do not match" not in str(error):
            raise Damaged(folder, f"it cannot be read ({type(error).__name__})") from None
        raise BadInput(
            f"{folder}: saved by another version of windtunnel; remove it and what it trained starts again, or go on "
            "with that version"
        ) from None
    if jax.tree.map(lambda leaf: (np.shape(leaf), leaf.dtype), tree) != jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), like
    ):
        raise Damaged(folder, "its arrays have other shapes than those of its study")
    return tree


def fingerprint(tree: Any) -> str:
    """A hash of all numbers of a tree."""
    return digest(b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)))


def check(folder: Path) -> None:
    """Refuse a folder in which a checkpoint could be saved and not be read back, before anything trains. Tensorstore
    reads some letters of a path in ways of its own, so paths with unusual ones are tried.
    """
    if re.fullmatch(r"[\w./=+~, -]*", str(folder.absolute()), re.ASCII):
        return
    trial = folder / f".checkpoint-{os.getpid()}"
    try:
        save(trial, {"x": np.ones(2, np.float32)})
        load(trial, {"x": np.zeros(2, np.float32)})
    except (Damaged, CannotWrite):
        raise BadInput(
            f"runs={folder}: a checkpoint that is saved there cannot be read back; give a path of letters, digits and "
            ". _ / = + , -"
        ) from None
    finally:
        remove(trial)


def exists(folder: Path) -> bool:
    """Whether there is a complete checkpoint."""
    _settle(folder)
    return _whole(folder)


def remove(folder: Path) -> None:
    """Remove the checkpoint, if there is one."""
    shutil.rmtree(folder, ignore_errors=True)
    _clear(folder)


def _check_room(path: Path, size: int) -> None:
    """Check that `size` bytes can be written; raises the OSError of a failed write."""
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    path.unlink()


def _whole(folder: Path) -> bool:
    return (folder / "_CHECKPOINT_METADATA").exists()


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def _settle(folder: Path) -> None:
    """Finish a save whose process ended just before it could rename the new checkpoint."""
    if not folder.exists() and _whole(_beside(folder, "new")):
        _beside(folder, "new").rename(folder)


def _clear(folder: Path) -> None:
    """Remove the files of a failed attempt to save."""
    _settle(folder)
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left, ignore_errors=True)


class _quiet:
    """Imports orbax when it is first needed, which takes over a second, and silences its log messages and warnings."""

    def __enter__(self) -> Any:
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # errors are raised as well
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.simplefilter("ignore")
        from orbax.checkpoint import v1

        # With several processes, orbax waits for all of them to save. Here one process alone saves whole arrays.
        self.alone = mock.patch.object(jax, "process_count", return_value=1)
        self.alone.__enter__()
        return v1

    def __exit__(self, *error: Any) -> None:
        self.alone.__exit__(*error)
        self.caught.__exit__(*error)

"""Checkpoints of pytrees. The only module that knows orbax."""

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

ROOM = 2**17  # bytes, of what describes the arrays
_WHY = re.compile(r"[^:]*(?= \[os_error_code)")


def save(folder: Path, tree: Any) -> None:
    """Write a tree of arrays to `folder`, whole or not at all; what was there stays until the new one is whole.

    Raises `CannotWrite`. (orbax alone removes the old one first, takes minutes to notice a folder without rights, and
    on a full disk its threads print pages: so there is made sure of the room beforehand.)
    """
    new, old = _beside(folder, "new"), _beside(folder, "old")
    arrays = jax.tree.map(np.asarray, tree)
    try:
        _clear(folder)
        new.mkdir(parents=True)
        _make_sure(new / "room", ROOM + sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)))
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

    Raises `BadInput` where the tree has another structure: another version of the program saved it.
    """
    _settle(folder)
    abstract = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
    try:
        with _quiet() as ocp:
            return ocp.load_pytree(folder.absolute(), abstract)
    except ValueError as error:
        if "structures do not match" not in str(error):
            raise
        raise BadInput(
            f"{folder}: saved by another version of windtunnel; remove it and what it trained starts again, or go on "
            "with that version"
        ) from None


def exists(folder: Path) -> bool:
    """Whether there is a finished checkpoint."""
    _settle(folder)
    return _whole(folder)


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _clear(folder)


def _make_sure(path: Path, size: int) -> None:
    """That so many bytes can be written; raises OSError as the writing would."""
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    path.unlink()


def _whole(folder: Path) -> bool:
    return (folder / "_CHECKPOINT_METADATA").exists()


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def _settle(folder: Path) -> None:
    """Put the new one in its place where the process ended just before it could."""
    if not folder.exists() and _whole(_beside(folder, "new")):
        _beside(folder, "new").rename(folder)


def _clear(folder: Path) -> None:
    """Remove what an attempt to save has left."""
    _settle(folder)
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left, ignore_errors=True)


class _quiet:
    """orbax, imported when first needed (over a second), without its notes to its own developers."""

    def __enter__(self) -> Any:
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # what goes wrong it raises as well
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.simplefilter("ignore")
        from orbax.checkpoint import v1

        # orbax has all processes save their parts at the same time. What comes here is whole, and of one process alone.
        self.alone = mock.patch.object(jax, "process_count", return_value=1)
        self.alone.__enter__()
        return v1

    def __exit__(self, *error: Any) -> None:
        self.alone.__exit__(*error)
        self.caught.__exit__(*error)

"""Checkpoints of pytrees. The only module that knows orbax."""

import logging
import shutil
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np


def save(folder: Path, tree: Any) -> None:
    """Write a tree of arrays to `folder`, whole or not at all, in place of what was there."""
    with _quiet() as ocp:
        ocp.save_pytree(folder.absolute(), jax.tree.map(np.asarray, tree), overwrite=True)


def load(folder: Path, like: Any) -> Any:
    """The tree in `folder`, as numpy arrays; `like` has its structure, shapes and types."""
    abstract = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
    with _quiet() as ocp:
        return ocp.load_pytree(folder.absolute(), abstract)


def exists(folder: Path) -> bool:
    """Whether there is a finished checkpoint."""
    return (folder / "_CHECKPOINT_METADATA").exists()


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


class _quiet:
    """orbax, imported when first needed (over a second), without its notes to its own developers."""

    def __enter__(self) -> Any:
        logging.getLogger("absl").setLevel(logging.ERROR)
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

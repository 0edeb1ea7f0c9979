"""The folder of the user's cache: what costs time to find out again, and nothing that would be missed."""

import contextlib
import os
import platform
import threading
from pathlib import Path


def folder() -> Path:
    """`RuntimeError` where there is no home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "windtunnel"


def keep(path: Path, content: bytes) -> None:
    """Write a file, beside its place and then moved: tasks of a job array may come here at once, and a reader must
    never see half of it. Where a folder cannot be written, nothing is kept.
    """
    beside = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}-{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)

"""Claims: locks that say which process works on which study, so that several processes may work in one folder.

Every study is one byte of the file `.claims`, locked by the process that trains or judges it. The kernel releases a
lock when its process ends, however it ends, so there are no stale claims to clean up. (These are locks of open files,
not of processes: a process would lose the latter as soon as any of its parts closed the file.)
"""

import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = ".claims"
SHARED = 0  # the byte that is locked while the files that all studies share are changed
FLOCK = "hhqqi0q"  # struct flock: type, whence, start, length, pid
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # errors of file systems without locks


class Claims:
    """This process's claims on the studies of a folder."""

    def __init__(self, root: Path):
        self.root = root
        self._file = os.open(root / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def take(self, ids: Iterable[str]) -> set[str]:
        """Claim the studies that no process holds. If two processes ask for the same at once, one of them gets all."""
        with locked(self.root):
            return {name for name in ids if _set(self._file, fcntl.F_WRLCK, _byte(name))}

    def drop(self, ids: Iterable[str]) -> None:
        for name in ids:
            _set(self._file, fcntl.F_UNLCK, _byte(name))

    def close(self) -> None:
        os.close(self._file)


def held(root: Path, ids: Iterable[str]) -> set[str]:
    """The studies that a process works on. This claims nothing, and needs no permission to write."""
    try:
        file = os.open(root / FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return set()
    try:
        return {name for name in ids if _is_held(file, _byte(name))}
    finally:
        os.close(file)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Exclusive access to the files that all studies share (`sweep.json`, `results.csv`); to be held only briefly."""
    file = os.open(root / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _set(file, fcntl.F_WRLCK, SHARED, wait=True)
        yield
    finally:
        os.close(file)


def _byte(name: str) -> int:
    """The byte of a study in the file: a hash of 62 bits, so that no two studies share one."""
    return 1 + int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % (2**62 - 1)


def _set(file: int, kind: int, start: int, wait: bool = False) -> bool:
    """Lock or unlock a byte; returns whether that succeeded. On a file system without locks it always does."""
    try:
        lock = struct.pack(FLOCK, kind, os.SEEK_SET, start, 1, 0)
        fcntl.fcntl(file, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, lock)
    except OSError as error:
        return error.errno in NO_LOCKS
    return True


def _is_held(file: int, start: int) -> bool:
    try:
        answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, start, 1, 0))
    except OSError:
        return False
    return struct.unpack(FLOCK, answer)[0] != fcntl.F_UNLCK

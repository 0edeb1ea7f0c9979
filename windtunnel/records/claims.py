"""Claims: which process works on which study of a folder, so that several may work in one at the same time.

Every study is a byte range of one file, `.claims`, locked by whoever trains or judges it. The kernel gives a lock back
when its process ends, however it ends, so a claim never outlives its holder and is never cleaned up. (Locks of open
files, not of processes: those would be lost as soon as anything else in the process closed the file.)
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
BOOKS = 0  # the byte that is locked to change what all studies of a folder share
FLOCK = "hhqqi0q"  # struct flock: type, whence, start, length, pid
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # a file system that has none


class Claims:
    """This process's claims on the studies of a folder."""

    def __init__(self, root: Path):
        self.root = root
        self._file = os.open(root / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def take(self, ids: Iterable[str]) -> set[str]:
        """Claim those that nobody else holds: of two processes that ask for the same at once, one gets all."""
        with locked(self.root):
            return {name for name in ids if _set(self._file, fcntl.F_WRLCK, _byte(name))}

    def drop(self, ids: Iterable[str]) -> None:
        for name in ids:
            _set(self._file, fcntl.F_UNLCK, _byte(name))

    def close(self) -> None:
        os.close(self._file)


def held(root: Path, ids: Iterable[str]) -> set[str]:
    """Those that a process is at work on. Looking claims nothing, and needs no right to write."""
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
    """Alone with what all studies share (`sweep.json`, `results.csv`): to be held for moments."""
    file = os.open(root / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _set(file, fcntl.F_WRLCK, BOOKS, wait=True)
        yield
    finally:
        os.close(file)


def _byte(name: str) -> int:
    """Where in the file a study is: a number of 62 bits, so that no two studies meet."""
    return 1 + int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % (2**62 - 1)


def _set(file: int, kind: int, start: int, wait: bool = False) -> bool:
    """Lock or unlock a byte; whether it is ours now. Where there are no locks, everybody may do everything."""
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

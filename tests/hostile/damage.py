"""Ways in which a file of a record is damaged."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _bom(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def _latin(path: Path) -> None:
    path.write_bytes(b"\xff" + path.read_bytes())


def _written(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content)


WAYS: dict[str, Callable[[Path], None]] = {
    "empty": _written(""), "cut off": _cut, "not UTF-8": _latin, "byte-order mark": _bom, "null": _written("null"),
    "list": _written("[]"), "object": _written("{}"), "number": _written("1e999"), "NaN": _written('{"a": NaN}'),
    "deep": _written("[" * 100_000), "folder": _folder, "gone": lambda path: path.unlink(),
}  # fmt: skip


def without(path: Path, *keys: str) -> None:
    """The file without a key, at the end of a path of keys."""
    record = json.loads(path.read_text())
    inner = record
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    path.write_text(json.dumps(record))


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def copy(root: Path, to: Path) -> Path:
    return Path(shutil.copytree(root, to))

"""The door for records: every file of a folder is read here, and checked before anybody counts on it.

What cannot be trusted is `Damaged`, with the file and the reason: text that is not UTF-8, JSON that is cut off, a key
that is missing or of another kind, a file that belongs to another study, numbers that were edited. `study.json` and
`result.json` carry the name of their study and a seal, a hash of all that they say; `result.json` also carries the hash
of its curves. Whoever reads parameters recomputes the name too, which is a hash of the study (`load.py`). Seals are
against mistakes, not against forgers.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from windtunnel import text
from windtunnel.errors import BadInput
from windtunnel.records import shapes

SCHEMA = 3  # of records: 1 had two states of bins, and ids in which defaults counted; 2 had no seals
SEAL = "seal"

Json = dict[str, Any]


class Damaged(BadInput):
    """A file of a record that cannot be trusted, and why."""

    def __init__(self, path: Path, why: str):
        super().__init__(f"{path}: damaged, {why}")
        self.path, self.why = path, why


class Older(Damaged):
    """A file that another version left. `why` says what to run."""


def digest(content: Any) -> str:
    """A hash of bytes, or of what JSON says, as ten hexadecimal digits."""
    data = content if isinstance(content, bytes) else json.dumps(content, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()[:10]


def sealed(content: Json) -> Json:
    """The content with a seal: a hash of everything in it."""
    content = json.loads(json.dumps({key: value for key, value in content.items() if key != SEAL}))
    return {**content, SEAL: digest(content)}


def read_text(path: Path) -> str:
    if path.is_dir():
        raise Damaged(path, "a folder in place of a file")
    try:
        return text.read(path)
    except BadInput as error:
        raise Damaged(path, str(error).removeprefix(f"{path}: ")) from None


def read_json(path: Path, shape: Any = dict) -> Json:
    """The object in a file, of this shape."""
    return _parsed(path, read_text(path), shape)


def read_lines(path: Path, shape: Any = dict) -> list[Json]:
    """The objects in a file with one on each line."""
    return [_parsed(path, line, shape) for line in read_text(path).splitlines()]


def _parsed(path: Path, content: str, shape: Any) -> Json:
    try:
        parsed = json.loads(content, parse_constant=_no_constant, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        what = "nothing in it" if not content.strip() else f"no JSON: {str(error).splitlines()[0]}"
        raise Damaged(path, what) from None
    if not isinstance(parsed, dict):
        raise Damaged(path, f"no object but {json.dumps(parsed)[:40]}")
    if isinstance(shape, dict) and (why := shapes.misfit(parsed, shape)):
        raise Damaged(path, why)
    return parsed


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _whole(digits: str) -> int:
    if len(digits) > 300:  # no floating-point number is as large, and whatever shows numbers would fail
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def read_curves(path: Path) -> dict[str, np.ndarray]:
    """The arrays in a file."""
    try:
        return _arrays(path.read_bytes())
    except OSError as error:
        raise Damaged(path, f"cannot be read ({error.strerror})") from None
    except Exception as error:  # whatever zip, zlib and numpy say of what they cannot read
        raise Damaged(path, f"no arrays in it ({type(error).__name__})") from None


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return dict(file)


def read_learning_curve(path: Path) -> dict[str, np.ndarray]:
    """{name: [rows]} of a `train.jsonl`; NaN where a number was not finite."""
    rows = read_lines(path, {**shapes.STEP, str: shapes.NUMBER_OR_NONE})
    if not rows or any(row.keys() != rows[0].keys() for row in rows):
        raise Damaged(path, "its lines have other keys than its first" if rows else "nothing in it")
    return {name: np.asarray([np.nan if row[name] is None else row[name] for row in rows], float) for name in rows[0]}


def read_study(folder: Path) -> Json:
    """`study.json`, of this folder's study."""
    return _own(folder, "study.json", shapes.STUDY)


def read_result(folder: Path) -> Json:
    """`result.json`, of this folder's study and of the curves that lie beside it."""
    record = _own(folder, "result.json", shapes.RESULT)
    path = folder / "curves.npz"
    try:
        same = digest(path.read_bytes()) == record["curves"]
    except OSError as error:
        raise Damaged(path, f"cannot be read ({error.strerror})") from None
    if not same:
        raise Damaged(path, "not the curves that its result.json was made of")
    return record


def _own(folder: Path, name: str, shape: Any) -> Json:
    path = folder / name
    record = read_json(path)
    schema = record.get("schema", 1)
    if schema != SCHEMA:
        raise Older(path, older(folder, schema))
    if why := shapes.misfit(record, shape):
        raise Damaged(path, why)
    own = folder.resolve().name
    if record["study_id"] != own:
        raise Damaged(path, f"it belongs to {record['study_id']}, not to {own}")
    if record.get(SEAL) != sealed(record)[SEAL]:
        raise Damaged(path, "its seal is broken: it was changed after it was written")
    return record


def older(folder: Path, schema: Any) -> str:
    """What to run where another version left a record."""
    if schema == 2:  # its names are those of now: what was trained stays, and is judged again
        again = f"judge it again: windtunnel evaluate {folder.parent}"
        return f"a record of schema 2, and this version reads {SCHEMA}; {again}"
    try:
        commands = read_json(folder.parent / "sweep.json", shapes.SWEEP).get("commands", [])
    except Damaged:
        commands = []
    again = commands[-1] if commands else "windtunnel run …"
    return f"a record of schema {schema}, and this version reads {SCHEMA}; make it again: {again}"


class Record(NamedTuple):
    """What a study's folder holds. `state` is `done`, `failed`, `waiting` or `damaged`; `why` says why it is damaged
    or failed; `older` that another version left it.
    """

    state: str
    study: Json | None = None
    result: Json | None = None
    why: str = ""
    older: bool = False


def read(folder: Path) -> Record:
    """A study's record, read through the door; it raises nothing."""
    study = None
    try:
        if (folder / "study.json").exists() or (folder / "result.json").exists():
            study = read_study(folder)
        if (folder / "result.json").exists():
            return Record("done", study, read_result(folder))
    except Damaged as error:
        return Record("damaged", study, None, f"{error.path.name}: {error.why}", isinstance(error, Older))
    if (folder / "error.txt").exists():
        return Record("failed", study, None, why_failed(folder))
    return Record("waiting", study)


def why_failed(folder: Path) -> str:
    """The first line of `error.txt`."""
    try:
        return (read_text(folder / "error.txt").splitlines() or ["no reason given"])[0]
    except Damaged as error:
        return f"the reason cannot be read: {error.path.name} is damaged, {error.why}"

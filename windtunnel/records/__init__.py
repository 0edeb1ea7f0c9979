"""The records of a run: one folder per study, every file written atomically. Reading and writing need no JAX.

`<runs>/<sweep or single>/<study-id>/` holds `study.json`, `train.jsonl`, `curves.npz`, `checkpoint/` and
`result.json`, which is written last: its presence means done. A failed study has `error.txt` instead.
`results.csv` at the root is derived from the records and never appended to. `door.py` reads what is written here.
"""

import csv
import io
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from windtunnel.errors import BadInput, CannotWrite
from windtunnel.records import shapes
from windtunnel.records.alone import interference
from windtunnel.records.door import (
    SCHEMA,
    Damaged,
    Json,
    Older,
    Record,
    digest,
    read,
    read_curves,
    read_json,
    read_learning_curve,
    read_lines,
    read_result,
    read_study,
    sealed,
)
from windtunnel.records.shapes import STEP
from windtunnel.records.twins import undertrained

__all__ = ["SCHEMA", "STEP", "Damaged", "Json", "Older", "Record", "digest", "read", "read_curves", "read_json",
           "read_learning_curve", "read_lines", "read_result", "read_study"]  # fmt: skip

COLUMNS = """study_id tunnel hypotheses noise prior position model supervision seed horizon reach kl_bits kl_bits_se
kl_bits_past headroom_bits_past js_bits tv entropy_gap_bits impossible_mass critical_length extrapolation_ratio
censored convergence_length convergence_length_exact equivalent_memory kl_bits_pool kl_bits_full worst_bin_bits
critical_length_low critical_length_high open leak undertrained kl_ratio_half interference_bits parameters steps
train_seconds compile_seconds tokens_per_second verdict status recovered_scale recovered_beta recovered_sharpness
recovered_kl_bits recovered_kl_bits_tempered softmax other_mass critical_hops critical_hops_low""".split()

LINES = 200  # of a learning curve
AWAY = ".damaged"  # the end of the name under which what is damaged is kept


def writable(folder: Path, key: str = "runs") -> None:
    """Refuse a folder that cannot be written to, before anything is computed; `key` is the setting that names it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise BadInput(f"{key}={folder}: cannot be written to ({error.strerror}); give a folder that can") from None


def write(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise CannotWrite(path, error.strerror) from None
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: Json) -> None:
    write(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_sealed(path: Path, content: Json) -> None:
    """Write a `study.json` or `result.json`, with its schema, the name of its study and a seal."""
    write_json(path, sealed({"schema": SCHEMA, **content, "study_id": path.resolve().parent.name}))


def write_curves(path: Path, curves: dict[str, np.ndarray]) -> str:
    """Write arrays; returns the digest of the file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **curves)
    write(path, buffer.getvalue())
    return digest(buffer.getvalue())


def set_aside(*paths: Path) -> None:
    """Take what is damaged out of the way, and keep it beside under another name."""
    for path in paths:
        if path.exists():
            other = path.with_name(path.name + AWAY)
            shutil.rmtree(other, ignore_errors=True) if other.is_dir() else other.unlink(missing_ok=True)
            path.rename(other)


def learning_curve(curves: dict[str, np.ndarray], steps: int, after: int = 0) -> list[Json]:
    """The rows of `train.jsonl` after the step `after`: means over windows of steps, with `step` the last step of the
    window. All `steps` make about 200 rows. None where a mean is not finite.
    """
    window = max(1, steps // LINES)
    done = len(next(iter(curves.values())))
    names = ["kl_bits", *sorted(curves.keys() - {"kl_bits"})]  # a checkpoint gives them back in another order
    rows = []
    for end in range((after // window + 1) * window, done + 1, window):
        means = {name: float(curves[name][end - window : end].mean()) for name in names}
        rows.append({"step": end, **{name: mean if np.isfinite(mean) else None for name, mean in means.items()}})
    return rows


def write_learning_curve(path: Path, curves: dict[str, np.ndarray]) -> None:
    """`train.jsonl`: KL to the exact posterior (bits) and every loss term."""
    rows = learning_curve(curves, len(curves["kl_bits"]))
    write(path, "".join(json.dumps(row) + "\n" for row in rows))


def ratio_to_half(path: Path) -> float | None:
    """KL at the end of training over KL at half of the steps, each a mean over a twentieth of the steps. None where
    there is no learning curve that can be read. Well below 1, training was still going somewhere.
    """
    try:
        curve = read_learning_curve(path)
    except Damaged:
        return None
    step, kl_bits = curve["step"], curve["kl_bits"]

    def before(end: float) -> float:
        near = (step > end - step[-1] / 20) & (step <= end)
        return float(kl_bits[near].mean()) if near.any() else math.nan

    ratio = before(step[-1]) / before(step[-1] / 2) if len(step) > 1 else math.nan
    return ratio if math.isfinite(ratio) else None


def studies(root: Path) -> list[Path]:
    """The study folders of a root, in the order of `sweep.json` if there is one. A study's own folder is a root too."""
    if is_study(root):
        return [root]
    if known := sweep(root):
        return [root / point["study_id"] for point in known["points"]]
    folders = begun(root)
    if not folders:
        raise BadInput(f"{root}: no records here; give a folder that `windtunnel run` wrote")
    return folders


def is_study(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("study.json", "result.json"))


def begun(root: Path) -> list[Path]:
    """The study folders that there are."""
    return sorted({path.parent for name in ("study", "result") for path in root.glob(f"*/{name}.json")})


def sweep(root: Path) -> Json | None:
    """`sweep.json`; None where there is none. Where it is damaged, what the studies themselves say of the sweep, with
    the reason under `damage`.
    """
    path = root / "sweep.json"
    if not path.exists():
        return None
    try:
        known = read_json(path, shapes.SWEEP)
        odd = [name for point in known["points"] if Path(name := point["study_id"]).name != name or len(name) > 200]
        if odd:
            raise Damaged(path, f"points: {odd[0][:40]!r} is no name of a study")
        return {"fixed": {}, **known}
    except Damaged as error:
        whole = {folder.name: study for folder in begun(root) if (study := read(folder).study)}
        flat = [flatten(study["study"]) for study in whole.values()]
        fixed = (
            {key: value for key, value in flat[0].items() if all(value == of.get(key, ...) for of in flat)}
            if flat
            else {}
        )
        points = [{"study_id": name, "overrides": study["overrides"]} for name, study in whole.items()]
        return {"points": points, "fixed": fixed, "damage": f"{path.name}: {error.why}"}


def overrides(root: Path) -> dict[str, dict[str, str]]:
    """{study_id: {swept key: value}}; in a sweep also for studies that have not begun."""
    if not is_study(root) and (known := sweep(root)):
        return {point["study_id"]: point["overrides"] for point in known["points"]}
    return {folder.name: study["overrides"] for folder in studies(root) if (study := read(folder).study)}


def status(folder: Path) -> str:
    """`done`, `failed`, `waiting` or `damaged`."""
    return read(folder).state


def notes(root: Path) -> list[Json]:
    """The notes of all packs that train or were interrupted, but for those that cannot be read."""
    contents = []
    for path in sorted((root / "packs").glob("*.json")):
        if note := read_note(path):
            contents.append(note)
    return contents


def read_note(path: Path) -> Json | None:
    """The note of a pack. None where there is none (another process may just have removed it), or it is damaged: a
    note is only for people, and for which studies make a pack.
    """
    try:
        return read_json(path, shapes.NOTE)
    except Damaged:
        return None


def row(folder: Path) -> Json:
    """One study as a row: every field by its dotted key, its facts, its swept overrides, its verdict. What is not known
    yet is missing; of a damaged record all is, but for its `damage`.
    """
    record = read(folder)
    fields: Json = {"study_id": folder.resolve().name, "status": record.state}
    if record.state == "damaged":
        return {**fields, "damage": record.why}
    if record.study is not None:  # what was swept goes by the name that was typed
        study, swept = record.study["study"], record.study["overrides"]
        fields = {**flatten(study), **record.study["facts"], **swept, **fields, "study": study, "overrides": swept}
        fields |= {"external": record.study["external"]} if "external" in record.study else {}
    return {**fields, **(record.result or {})}


def rows(root: Path) -> list[Json]:
    """All studies of a root. A study that has not begun has the fields that its sweep fixes or sweeps."""
    swept, shared = overrides(root), fixed(root)
    names = {key.removesuffix(".name").removeprefix("tunnel."): shared[key] for key in shared if key.endswith(".name")}
    table = []
    for folder in studies(root):
        typed = swept.get(folder.resolve().name, {})
        table.append({**shared, **names, **typed, "overrides": typed, **row(folder)})
    return [{**row, "undertrained": undertrained(row, table), **interference(row, table)} for row in table]


def fixed(root: Path) -> Json:
    """What all studies of a sweep share, by dotted keys; empty where there is no sweep."""
    known = None if is_study(root) else sweep(root)
    return known["fixed"] if known else {}


def flatten(tree: Any, prefix: str = "") -> Json:
    """Nested dicts as one dict of dotted keys."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    parts = (flatten(value, f"{prefix}.{key}" if prefix else key) for key, value in tree.items())
    return {key: value for part in parts for key, value in part.items()}


def write_results(root: Path) -> Path:
    """Derive `results.csv` from the records; returns its path."""
    table = rows(root)
    columns = COLUMNS + sorted({key for swept in overrides(root).values() for key in swept} - set(COLUMNS))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(harmless, columns))
    writer.writerows([_cell(row.get(key)) for key in columns] for row in table)
    write(root / "results.csv", out.getvalue())
    return root / "results.csv"


def _cell(value: Any) -> Any:
    if isinstance(value, (bool, float)):
        return str(value).lower() if isinstance(value, bool) else f"{value:.6g}"
    return harmless(value)


def harmless(value: Any) -> Any:
    """A cell of a CSV. Spreadsheets compute what begins with =, +, - or @; where that is no number, it gets a quote."""
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value

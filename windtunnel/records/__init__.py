"""The records of a run: one folder per study, every file written atomically. Reading and writing need no JAX.

`<runs>/<sweep or single>/<study-id>/` holds `study.json`, `train.jsonl`, `curves.npz`, `checkpoint/` and
`result.json`, which is written last: its presence means done. A failed study has `error.txt` instead.
`results.csv` at the root is derived from the records and never appended to.
"""

import contextlib
import csv
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from windtunnel.errors import BadInput, CannotWrite
from windtunnel.records.twins import undertrained

COLUMNS = """study_id tunnel hypotheses noise prior position model supervision seed horizon reach kl_bits kl_bits_se
kl_bits_past headroom_bits_past js_bits tv entropy_gap_bits impossible_mass critical_length extrapolation_ratio
censored convergence_length convergence_length_exact equivalent_memory kl_bits_pool kl_bits_full worst_bin_bits
critical_length_low critical_length_high open leak undertrained kl_ratio_half parameters steps train_seconds
compile_seconds tokens_per_second verdict status recovered_scale recovered_beta recovered_sharpness recovered_kl_bits
recovered_kl_bits_tempered softmax other_mass critical_hops critical_hops_low""".split()

LINES = 200  # of a learning curve
SCHEMA = 2  # of records: 1 had two states of bins, and ids in which defaults counted

Json = dict[str, Any]


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


def read_json(path: Path) -> Json:
    return json.loads(path.read_text())


def write_curves(path: Path, curves: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **curves)
    write(path, buffer.getvalue())


def read_curves(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


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


def read_learning_curve(path: Path) -> dict[str, np.ndarray]:
    """{name: [rows]} of a `train.jsonl`; NaN where a number was not finite."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {name: np.asarray([np.nan if row[name] is None else row[name] for row in rows], float) for name in rows[0]}


def ratio_to_half(path: Path) -> float | None:
    """KL at the end of training over KL at half of the steps, each a mean over a twentieth of the steps. None where
    there is no learning curve. Well below 1, training was still going somewhere.
    """
    if not path.exists():
        return None
    curve = read_learning_curve(path)
    step, kl_bits = curve["step"], curve["kl_bits"]

    def before(end: float) -> float:
        near = (step > end - step[-1] / 20) & (step <= end)
        return float(kl_bits[near].mean()) if near.any() else math.nan

    ratio = before(step[-1]) / before(step[-1] / 2) if len(step) > 1 else math.nan
    return ratio if math.isfinite(ratio) else None


def studies(root: Path) -> list[Path]:
    """The study folders of a root, in the order of `sweep.json` if there is one. A study's own folder is a root too."""
    if (root / "study.json").exists():
        return [root]
    if (root / "sweep.json").exists():
        return [root / point["study_id"] for point in read_json(root / "sweep.json")["points"]]
    folders = sorted(path.parent for path in root.glob("*/study.json")) if root.is_dir() else []
    if not folders:
        raise BadInput(f"{root}: no records here; give a folder that `windtunnel run` wrote")
    return folders


def overrides(root: Path) -> dict[str, dict[str, str]]:
    """{study_id: {swept key: value}}; in a sweep also for studies that have not begun."""
    if (root / "sweep.json").exists():
        return {point["study_id"]: point["overrides"] for point in read_json(root / "sweep.json")["points"]}
    begun = [folder for folder in studies(root) if (folder / "study.json").exists()]
    return {folder.name: read_json(folder / "study.json")["overrides"] for folder in begun}


def status(folder: Path) -> str:
    """`done`, `failed` or `waiting`."""
    return "done" if (folder / "result.json").exists() else "failed" if (folder / "error.txt").exists() else "waiting"


def notes(root: Path) -> list[Json]:
    """The notes of all packs that train or were interrupted."""
    contents = []
    for path in sorted((root / "packs").glob("*.json")):
        with contextlib.suppress(FileNotFoundError):  # another process may just have removed it
            contents.append(read_json(path))
    return contents


def row(folder: Path) -> Json:
    """One study as a row: every field by its dotted key, its facts, its swept overrides, its verdict. What is not known
    yet is missing.
    """
    state = status(folder)
    fields: Json = {"study_id": folder.name, "status": state}
    if (folder / "study.json").exists():
        record = read_json(folder / "study.json")  # what was swept goes by the name that was typed
        study = record.get("study", {})
        fields = {**flatten(study), **record["facts"], **record["overrides"], **fields}
        fields |= {"study": study, "overrides": record["overrides"]}
        fields |= {"external": record["external"]} if "external" in record else {}
    if state == "done":
        result = read_json(folder / "result.json")
        if result.get("schema", 1) != SCHEMA:
            raise BadInput(f"{folder}: {older(folder, result)}")
        fields |= result
    return fields


def older(folder: Path, record: Json) -> str:
    """What to say of a record that another version left, and what to run."""
    commands = []
    if (folder.parent / "sweep.json").exists():
        commands = read_json(folder.parent / "sweep.json").get("commands", [])
    again = commands[-1] if commands else "windtunnel run …"
    return f"a record of schema {record.get('schema', 1)}, and this version reads {SCHEMA}; make it again: {again}"


def rows(root: Path) -> list[Json]:
    """All studies of a root. A study that has not begun has the fields that its sweep fixes or sweeps."""
    swept, shared = overrides(root), fixed(root)
    names = {key.removesuffix(".name").removeprefix("tunnel."): shared[key] for key in shared if key.endswith(".name")}
    table = [{**shared, **names, **swept.get(folder.name, {}), **row(folder)} for folder in studies(root)]
    return [{**row, "undertrained": undertrained(row, table)} for row in table]


def fixed(root: Path) -> Json:
    """What all studies of a sweep share, by dotted keys; empty where there is no sweep."""
    return read_json(root / "sweep.json").get("fixed", {}) if (root / "sweep.json").exists() else {}


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
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(row.get(key)) for key in columns} for row in table)
    write(root / "results.csv", out.getvalue())
    return root / "results.csv"


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else value

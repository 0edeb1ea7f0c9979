"""Does this code write the same records as another revision, bit for bit?

`python scripts/same_records.py REVISION` checks REVISION out beside this checkout, runs the same small sweeps with
both, and compares every record: numbers, curves, learning curves, parameters. Durations, versions and the revision are
not compared. Keys that only the new records have are listed and allowed. Exit code 1 if anything differs. `--keep DIR`
keeps both sets of records in DIR, and uses the records of REVISION that are already there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent.parent
SMALL = ["train.steps=20", "train.batch=8", "evaluate.examples=16", "seed=1"]
THIN = ["model.width=24", "model.hidden=16"]
SWEEPS = {
    "tunnels": ["-m", "tunnel=bijection,die,hmm,markov,mixture,mixture_segments,permutation,recall,recurrence,"
                "regression,urn", *THIN],
    "long": ["-m", "tunnel=recall,die,hmm_far", "evaluate.reach=20", *THIN],
    "positions": ["-m", "position=uniform,alibi,gaussian,generalized_gaussian,bam,kerple,t5,fire,learned,sinusoidal,"
                  "randomised,rope,xpos", "evaluate.reach=4", *THIN],
    "models": ["-m", "model=gru,lstm,mlp,ssm,looped", "evaluate.reach=4"],
    "training": ["-m", "train.supervision=posterior,sample", "train.optimizer=muon,adamw,sgd", "train.em.value=10",
                 *THIN],
    "pool": ["-m", "tunnel=urn", "tunnel.pool=7,9", *THIN],
}  # fmt: skip
CLOCK = {"train_seconds", "compile_seconds", "tokens_per_second", "versions", "git", "commands", "process", "time",
         "steady_seconds", "compilations", "found_compiled"}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        keep = options.keep or Path(scratch)
        before, after, checkout = keep / "before", keep / "after", Path(scratch) / "checkout"
        if not before.exists():
            subprocess.run(["git", "-C", HERE, "worktree", "add", "--detach", checkout, options.revision], check=True)
            try:
                record(checkout, before)
            finally:
                subprocess.run(["git", "-C", HERE, "worktree", "remove", "--force", checkout], check=True)
        record(HERE, after)
        differences, new = compared(before, after)
    for line in differences[:40]:
        print(line)
    print(f"{len(differences)} differences; keys that only the new records have: {', '.join(sorted(new)) or 'none'}")
    sys.exit(bool(differences))


def record(checkout: Path, runs: Path) -> None:
    for name, overrides in SWEEPS.items():
        command = [sys.executable, "-m", "windtunnel.cli", "run", *overrides, *SMALL, f"runs={runs.resolve() / name}"]
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)


def compared(before: Path, after: Path) -> tuple[list[str], set[str]]:
    """One line for each difference; and the keys that only the new records have."""
    differences: list[str] = []
    new: set[str] = set()
    for path in sorted(path for path in before.rglob("*") if path.suffix in (".json", ".jsonl", ".npz", ".csv")):
        name = str(path.relative_to(before))
        if not (after / name).exists():
            differences.append(f"{name}: missing")
            continue
        old, now = dict(leaves(path)), dict(leaves(after / name))
        new |= {f"{path.name}:{key.split('[')[0]}" for key in now.keys() - old.keys()}
        differences += [f"{name}: {key}: {old[key]} → {now.get(key, 'missing')}" for key in old
                  if key not in now or not equal(old[key], now[key])]  # fmt: skip
    for path in sorted(before.rglob("checkpoint")):
        name = str(path.relative_to(before))
        old, now = parameters(path), parameters(after / name)
        differences += [f"{name}: {key} differs" for key in old.keys() | now.keys()
                  if key not in old or key not in now or not equal(old[key], now[key])]  # fmt: skip
    return differences, new


def leaves(path: Path) -> Iterator[tuple[str, Any]]:
    """(key, value) of everything in a file, except durations, times and versions."""
    if path.suffix == ".npz":
        with np.load(path) as file:
            yield from file.items()
    elif path.suffix == ".json":
        yield from flat(json.loads(path.read_text()), "")
    elif path.suffix == ".jsonl":
        for number, line in enumerate(path.read_text().splitlines()):
            yield from flat(json.loads(line), f"[{number}]")
    else:
        rows = [line.split(",") for line in path.read_text().splitlines()]
        for number, row in enumerate(rows[1:]):
            yield from ((f"{key}[{number}]", cell) for key, cell in zip(rows[0], row, strict=False) if key not in CLOCK)


def flat(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key not in CLOCK:
                yield from flat(value, f"{key}{prefix}" if prefix.startswith("[") else f"{prefix}.{key}".strip("."))
    elif isinstance(tree, list):
        yield from (pair for number, value in enumerate(tree) for pair in flat(value, f"{prefix}.{number}"))
    else:
        yield prefix, tree


def parameters(folder: Path) -> dict[str, np.ndarray]:
    import jax

    import windtunnel

    flat = jax.tree_util.tree_flatten_with_path(windtunnel.load(folder.parent)[2])[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}


def equal(a: Any, b: Any) -> bool:
    floats = isinstance(a, np.ndarray) and a.dtype.kind == "f"
    return bool(np.array_equal(a, b, equal_nan=True) if floats else np.all(a == b))


if __name__ == "__main__":
    main()

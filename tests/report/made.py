"""Records as a sweep leaves them, made up: reports read records and need no training."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from windtunnel import records
from windtunnel.records.shapes import METRICS

STUDY: dict[str, Any] = {"tunnel": {"name": "recall", "noise": 0.1}, "model": {"name": "transformer"}, "seed": 0,
                         "train": {"steps": 100}, "evaluate": {"tolerance": 0.01, "reach": 4.0}}  # fmt: skip
FACTS: dict[str, Any] = {
    "tunnel": "recall",
    "hypotheses": 8,
    "horizon": 8,
    "position": "alibi",
    "seed": 0,
    "steps": 100,
}
RESULT: dict[str, Any] = {
    **{f"{metric}{where}{error}": 1e-3 for metric in METRICS for where in ("", "_past") for error in ("", "_se")},
    "evaluate": {"tolerance": 0.01, "reach": 4.0, "examples": 64}, "evaluate_id": "x", "reach": 4.0,
    "kl_bits": 1e-3, "kl_bits_past": 2e-3, "headroom_bits": 0.3, "headroom_bits_past": 0.3, "critical_length": 32,
    "critical_length_low": 32, "critical_length_high": 32, "extrapolation_ratio": 4.0, "censored": False, "open": False,
    "leak": False, "worst_bin_bits": 2e-3, "worst_bin": "1–4", "sequences": 64, "unseen_share": 3 / 64,
    "baselines": {"prior": {"kl_bits": 1.0, "kl_bits_past": 1.0}}, "equivalent_memory": 4,
    "equivalent_memory_censored": False, "verdict": "extrapolates"}  # fmt: skip


def write_study(folder: Path, overrides: dict[str, str] | None = None, **content: Any) -> None:
    """A `study.json` that the door lets in; `facts` and `study` add to what it says."""
    study, facts = {**STUDY, **content.pop("study", {})}, {**FACTS, **content.pop("facts", {})}
    records.write_sealed(
        folder / "study.json", {"study": study, "overrides": overrides or {}, "facts": facts, **content}
    )


def write_result(folder: Path, curves: dict[str, Any] | None = None, **numbers: Any) -> None:
    """The same of a `result.json`, and of the curves beside it."""
    numbers["curves"] = records.write_curves(folder / "curves.npz", curves or {"first": np.ones(1)})
    records.write_sealed(folder / "result.json", {**RESULT, **numbers})


def study(
    root: Path, overrides: dict[str, str], result: dict[str, Any] | None, fixed: dict[str, Any] | None = None
) -> str:
    """One study's folder; with no result it waits, with `error` in it it has failed."""
    name = "-".join(f"{key}{value}" for key, value in overrides.items())
    facts = {"tunnel": {**STUDY, **(fixed or {})}["tunnel"]["name"]}
    facts |= {key: int(value) if key == "seed" else value for key, value in overrides.items() if key in FACTS}
    write_study(root / name, overrides, study=fixed or {}, facts=facts)
    if result is not None and "error" in result:
        records.write(root / name / "error.txt", result["error"])
    elif result is not None:
        write_result(root / name, **result)
    return name


def sweep(root: Path, results: dict[str, list[dict[str, Any] | None]], key: str = "position", **fixed: Any) -> Path:
    """{value of the key: [result of seed 0, of seed 1, …]}"""
    points = []
    for value, seeds in results.items():
        for seed, result in zip(itertools.count(), seeds):
            overrides = {key: value, "seed": str(seed)}
            points.append({"study_id": study(root, overrides, result, fixed), "overrides": overrides})
    shared = records.flatten({**STUDY, **fixed})
    del shared["seed"]
    records.write_json(root / "sweep.json", {"points": points, "packs": [], "fixed": shared})
    return root


def kl(*values: float) -> list[dict[str, Any] | None]:
    """Studies with these KLs, in range and past."""
    return [{"kl_bits": value, "kl_bits_past": 10 * value} for value in values]


def curved(root: Path) -> Path:
    """The same, with the curves, learning curves and examples that a report draws, for every study that is done."""
    random = np.random.default_rng(0)
    for path in root.glob("*/result.json"):
        first = np.asarray([1, 3, 5, 9, 17])
        scale = records.read_result(path.parent)["kl_bits"]
        curves = {"first": first, "last": np.asarray([2, 4, 8, 16, 32]), "baseline/last-horizon": np.full(5, 0.3)}
        for name in ("kl_bits", "entropy_bits", "entropy_bits_exact"):
            curves[name] = scale * random.uniform(0.5, 2, 5)
        write_result(path.parent, **{**records.read_result(path.parent), "curves": curves})
        records.write_learning_curve(path.with_name("train.jsonl"), {"kl_bits": random.uniform(size=50)})
        causal = np.tril(np.ones((4, 4)))
        causal /= causal.sum(1, keepdims=True)
        example = {"words": np.asarray(["A 1", "B 2", "A 0", "C 3"]), "outcome": np.asarray([0, 1, 0, 2])}
        example |= {"attention": causal[None, None].repeat(2, axis=1), "posterior": causal, "lag": np.arange(5)}
        example |= {"prior_bits": -np.arange(5.0), "position_bits": -np.arange(5.0)[None, None].repeat(2, axis=1)}
        records.write_curves(path.with_name("example.npz"), example)
    return root

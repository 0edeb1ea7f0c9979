"""A problem in a folder: `problem.json`, `evaluation.npz`, and where asked for `train.npz` and `prompts.jsonl`."""

import hashlib
import itertools
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from windtunnel import __version__, config, records
from windtunnel.errors import BadInput
from windtunnel.external.posed import Posed
from windtunnel.external.text import Text
from windtunnel.spec import plain

SCHEMA = 1
MEANING = {
    "inputs": "what a model reads: tokens [B, T], or features [B, T, F]",
    "tokens": "the indices into T at which outcomes are predicted, ascending; inputs after a token are not to be seen",
    "observations": "which observation each of these is, counted from 1",
    "outcome": "the outcome that was drawn",
    "weight": "0 where a prediction does not count",
    "log_exact": "log-probability (nats) of each of V outcomes, by exact inference from what is in the inputs",
}
ANSWER = {
    "id": "the problem's id, as it stands here",
    "log_q": "[B, P, V] log-probabilities (nats) of the outcomes in their order, at `tokens`; or else",
    "logits": "[B, P, V] the same up to a constant for each prediction",
    "other_mass": "[B, P] only with text: the probability of anything but the outcomes",
}


def export(posed: Posed, folder: Path, *, batches: int = 0, seed: int = 0, answers: bool = True) -> None:
    """Write a problem to a folder; `answers` are the exact predictives of the evaluation sequences."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "problem.json").exists():
        raise BadInput(f"to={folder}: is no empty folder, and holds no problem to be replaced")
    records.writable(folder, "to")
    problem, evaluation = posed.problem, posed.evaluation
    files: dict[str, dict[str, np.ndarray]] = {"evaluation.npz": evaluation._asdict()}
    if answers:
        files["evaluation.npz"]["log_exact"] = posed.exact.log_predictive
    if batches:
        drawn = list(itertools.islice(posed.batches(seed), batches))
        stacked = {name: np.stack([getattr(batch, name) for batch in drawn]) for name in drawn[0]._fields}
        files["train.npz"] = {**stacked, "tokens": drawn[0].tokens}
    about: dict[str, Any] = {
        "schema": SCHEMA,
        "id": problem.id,
        "problem": plain(problem),
        "batch": posed.batch,
        "plugins": list(posed.plugins),
        "versions": {name: version(name) for name in ("jax", "jaxlib", "numpy")} | {"windtunnel": __version__},
        "outcomes": problem.tunnel.outcomes,
        "units": "log-probabilities in nats; an axis B is sequences, T tokens, P predictions, V outcomes, F features",
        "sequences": fingerprint(evaluation.inputs),
        "arrays": {file: _described(of) for file, of in files.items()},
        "train": {"batches": batches, "seed": seed, "axes": "a batch each, in the order of training"}
        if batches
        else None,
        "answer": ANSWER,
        "text": None,
    }
    if posed.text is not None:
        words = posed.text.words(problem)
        about["text"] = {**asdict(posed.text), "words": words, "continuations": posed.text.continuations(problem)}
        rows = (json.dumps(prompt._asdict(), ensure_ascii=False) + "\n" for prompt in posed.prompts())
        records.write(folder / "prompts.jsonl", "".join(rows))
    for file, of in files.items():
        records.write_curves(folder / file, of)
    records.write_json(folder / "problem.json", about)


def _described(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {
        name: {"shape": list(of.shape), "type": str(of.dtype), "meaning": MEANING[name]} for name, of in arrays.items()
    }


def fingerprint(inputs: np.ndarray) -> str:
    """Of the evaluation sequences: another version of a library may draw others."""
    return hashlib.sha256(np.ascontiguousarray(inputs).tobytes()).hexdigest()[:16]


def read(folder: Path, plugins: tuple[str, ...] = ()) -> Posed:
    """The problem in a folder. Its plug-ins run code, so they must be named here too."""
    path = folder / "problem.json"
    try:
        about = records.read_json(path)
        needs = about["plugins"]
    except FileNotFoundError:
        raise BadInput(f"{folder}: holds no problem.json; `windtunnel export … to={folder}` writes one") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(f"{path}: cannot be read; export the problem again") from None
    missing = {str(Path(name).resolve()): name for name in needs}
    missing = [name for path, name in missing.items() if path not in {str(Path(name).resolve()) for name in plugins}]
    if missing:
        raise BadInput(f"{path}: needs the code of a plug-in; to run it, name it too: plugins={missing[0]}")
    problem = config.problem(about["problem"], plugins)
    text = about.get("text")
    form = None if text is None else Text(**{key: _hashable(text[key]) for key in ("symbols", "separator", "start")})
    posed = Posed(problem, about["batch"], tuple(plugins), form)
    if about["id"] != problem.id:
        raise BadInput(f"{path}: its id is {about['id']}, and that of its problem {problem.id}; export it again")
    if about["sequences"] != fingerprint(posed.evaluation.inputs):
        raise BadInput(f"{path}: this version draws other sequences for its problem; export it again")
    return posed


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

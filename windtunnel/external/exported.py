"""A problem in a folder: `problem.json`, `evaluation.npz`, and where asked for `train.npz` and `prompts.jsonl`."""

import hashlib
import itertools
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from windtunnel import __version__, door, records
from windtunnel.errors import BadInput
from windtunnel.external.posed import Evaluation, Posed
from windtunnel.plugins import permitted
from windtunnel.spec import plain

SCHEMA = 1
MOST_BYTES = 2e9  # of training data: they are held in memory while they are written
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
    "other_mass": "[B, P] where a model chooses from more than the outcomes: the probability of all else, with log_q",
}


def export(posed: Posed, folder: Path, *, batches: int = 0, seed: int = 0, answers: bool = True) -> None:
    """Write a problem to a folder; `answers` are the exact predictives of the evaluation sequences."""
    problem = posed.problem
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"to={folder}: is a file; give a folder")
    if folder.exists() and any(folder.iterdir()) and not (folder / "problem.json").exists():
        raise BadInput(f"to={folder}: is no empty folder, and holds no problem to be replaced")
    _check_size(posed, batches)
    if posed.text is not None:
        posed.text.words(problem)  # refuses what has no text
    records.writable(folder, "to")
    evaluation = posed.evaluation
    files: dict[str, dict[str, np.ndarray]] = {"evaluation.npz": evaluation._asdict()}
    if answers:
        files["evaluation.npz"]["log_exact"] = posed.exact.log_predictive
    if batches:
        drawn = list(itertools.islice(posed.batches(seed), batches))
        stacked = {name: np.stack([getattr(batch, name) for batch in drawn]) for name in drawn[0]._fields}
        files["train.npz"] = {**stacked, "tokens": drawn[0].tokens}
    shown_as = problem.tunnel.outcome_tokens
    about: dict[str, Any] = {
        "schema": SCHEMA,
        "id": problem.id,
        "problem": plain(problem),
        "batch": posed.batch,
        "plugins": posed.plugins,
        "versions": {name: version(name) for name in ("jax", "jaxlib", "numpy")} | {"windtunnel": __version__},
        "features": posed.features,
        "vocabulary": posed.vocabulary,
        "start": problem.tunnel.start,
        "outcomes": posed.outcomes,
        "outcome_tokens": None if shown_as is None else shown_as.tolist(),
        "units": "log-probabilities in nats; an axis B is sequences, T tokens, P predictions, V outcomes, F features",
        "sequences": fingerprint(evaluation),
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
    for file in {"train.npz", "prompts.jsonl"} - files.keys() - ({"prompts.jsonl"} if posed.text else set()):
        (folder / file).unlink(missing_ok=True)  # of the problem that was here before


def _check_size(posed: Posed, batches: int) -> None:
    """Refuse training data that would not fit."""
    tunnel, horizon = posed.problem.tunnel, posed.problem.horizon
    numbers = tunnel.tokens(horizon) * max(1, posed.features) + horizon * (2 + posed.outcomes)
    size = 4 * batches * posed.batch * numbers
    if size > MOST_BYTES:
        most = int(MOST_BYTES // (4 * posed.batch * numbers))
        raise BadInput(
            f"train={batches}: are {size / 1e9:.1f} GB; at most {most} batches are written (in Python, "
            "windtunnel.problem(…).batches(seed) has no end)"
        )


def _described(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {
        name: {"shape": list(of.shape), "type": str(of.dtype), "meaning": MEANING[name]} for name, of in arrays.items()
    }


def fingerprint(evaluation: Evaluation) -> str:
    """Of the evaluation sequences: another version of a library may draw others. Features are left out, since their
    last bits differ from machine to machine.
    """
    whole = [evaluation.outcome, *([evaluation.inputs] if evaluation.inputs.ndim == 2 else [])]
    return hashlib.sha256(b"".join(np.ascontiguousarray(of, "<i4").tobytes() for of in whole)).hexdigest()[:16]


def read(folder: Path, plugins: tuple[str, ...] = ()) -> Posed:
    """The problem in a folder. Its plug-ins run code, so they must be named here too."""
    path = folder / "problem.json"
    if not path.exists():
        raise BadInput(f"{folder}: holds no problem.json; `windtunnel export … to={folder}` writes one")
    try:
        about = records.read_json(path)
        schema = about["schema"]
    except (records.Damaged, KeyError):
        raise BadInput(f"{path}: cannot be read; export the problem again") from None
    if schema != SCHEMA:
        raise BadInput(f"{path}: has schema {schema}, and this version reads {SCHEMA}; export the problem again")
    kinds = {"id": str, "problem": dict, "batch": int, "plugins": list, "sequences": str}
    wrong = [key for key, kind in kinds.items() if not isinstance(about.get(key), kind)]
    if wrong:
        raise BadInput(f"{path}: {wrong[0]}: missing, or no {kinds[wrong[0]].__name__}; export the problem again")
    problem = door.problem(about["problem"], permitted(path, map(str, about["plugins"]), plugins))
    if about["id"] != problem.id:
        raise BadInput(f"{path}: its id is {about['id']}, and that of its problem {problem.id}; export it again")
    posed = Posed(problem, about["batch"])
    if about["sequences"] != fingerprint(posed.evaluation):
        raise BadInput(f"{path}: this version draws other sequences for its problem; export it again")
    return posed

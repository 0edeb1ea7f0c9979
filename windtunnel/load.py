"""Loading finished studies."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax

from windtunnel import checkpoint, records
from windtunnel.config import Study, study_id
from windtunnel.door import study
from windtunnel.errors import BadInput
from windtunnel.models import with_parameters
from windtunnel.plugins import permitted
from windtunnel.records.shapes import STUDY, misfit
from windtunnel.spec import arrays
from windtunnel.train import START, build, finished, start, stream


def load(folder: Path, plugins: Iterable[str] = (), trust: bool = False) -> tuple[Study, Callable[..., Any], Any]:
    """(study, model, params) of a study folder; the study's knobs are arrays, ready for pure functions."""
    loaded = arrays(read_study(folder, plugins, trust))
    params = read_parameters(folder, jax.eval_shape(lambda study: finished(study, start(study).params), loaded))
    module = build(loaded, stream(loaded, START))

    def model(params: Any, inputs: Any, tokens: Any, **options: Any) -> Any:
        return with_parameters(module, params)(inputs, tokens, **options)

    return loaded, model, params


def read_study(folder: Path, plugins: Iterable[str] = (), trust: bool = False) -> Study:
    """The study of a folder, whose name is a hash of it. The record alone says no plug-in whose code may be run: see
    `plugins.permitted`.
    """
    record = plain_study(folder)
    if "external" in record:
        raise BadInput(f"{folder}: a model from outside, whose parameters are not here")
    named = permitted(folder, record.get("plugins", []), plugins, trust)
    try:
        checked = study(record["study"], named)
    except BadInput as error:
        raise records.Damaged(folder / "study.json", str(error)) from None
    name = folder.resolve().name
    if study_id(checked) != name:
        why = "its plug-in was changed since" if named else "it was edited"
        raise records.Damaged(folder / "study.json", f"its study is {study_id(checked)}, not {name}: {why}")
    return checked


def plain_study(folder: Path) -> records.Json:
    """`study.json`, also where schema 2 left it, without a seal: the name of the folder is a hash of the study."""
    try:
        return records.read_study(folder)
    except records.Older:
        record = records.read_json(folder / "study.json")
        if record.get("schema") != 2 or misfit({**record, "study_id": folder.name}, STUDY):
            raise
        return record


def read_parameters(folder: Path, like: Any) -> Any:
    """The parameters of a study's folder: those that its record was written with."""
    params = checkpoint.load(folder / "checkpoint", like)
    expected = plain_study(folder).get("parameters")
    if expected not in (None, checkpoint.fingerprint(params)):
        raise records.Damaged(folder / "checkpoint", "its parameters are not those that were trained here")
    return params

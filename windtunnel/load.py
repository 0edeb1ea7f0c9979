"""Loading finished studies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from windtunnel import checkpoint, records
from windtunnel.config import Study, study
from windtunnel.errors import BadInput
from windtunnel.models import with_parameters
from windtunnel.spec import arrays
from windtunnel.train import START, build, finished, start, stream


def load(folder: Path) -> tuple[Study, Callable[..., Any], Any]:
    """(study, model, params) of a study folder; the study's knobs are arrays, ready for pure functions."""
    loaded = arrays(read_study(folder))
    params = checkpoint.load(
        folder / "checkpoint", jax.eval_shape(lambda study: finished(study, start(study).params), loaded)
    )
    module = build(loaded, stream(loaded, START))

    def model(params: Any, inputs: Any, tokens: Any, **options: Any) -> Any:
        return with_parameters(module, params)(inputs, tokens, **options)

    return loaded, model, params


def read_study(folder: Path) -> Study:
    record = records.read_json(folder / "study.json")
    if "external" in record:
        raise BadInput(f"{folder}: a model from outside, whose parameters are not here")
    return study(record["study"], record.get("plugins", []))

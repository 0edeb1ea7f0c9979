"""windtunnel: is attention Bayesian inference? Small models against exact posteriors, in bits, at every position.

Shapes live in names: B batch · T sequence · P scored position · V outcome · H hypothesis · N head · D width ·
S study in a pack; Q queries, K keys, F features, d head width.
"""

from pathlib import Path
from typing import Any

__version__ = "0.1.0"


def load(folder: str | Path) -> tuple[Any, Any, Any]:
    """A finished study, for notebooks: (study, model, params).

    `model(params, inputs, at, tap=…)` gives logits [B, P, V] at the tokens `at`; see `models/transformer.py` for taps.
    """
    from windtunnel.sweep.load import load

    return load(Path(folder))

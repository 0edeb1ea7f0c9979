"""windtunnel: is attention Bayesian inference? Small models against exact posteriors, in bits, at every position.

Shapes live in names: B batch · T token · P scored position · V outcome · H hypothesis · N head · D width ·
S study in a pack; Q queries, K keys, F features, d head width. A file in which a letter means something else says so in
its first lines.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

__version__ = "0.1.0"


def load(folder: str | Path, plugins: Sequence[str] = (), trust: bool = False) -> tuple[Any, Any, Any]:
    """(study, model, params) of a finished study, for notebooks.

    `model(params, inputs, tokens, tap=…)` gives logits [B, P, V] at these tokens; see `models/tap.py` for taps. If
    parts of the study come from plug-ins, name these too: they are code, which a record alone does not get run. `trust`
    runs whatever the record names.
    """
    from windtunnel.canary import check_compiler
    from windtunnel.load import load

    check_compiler()
    return load(Path(folder), plugins, trust)


def problem(*overrides: str) -> Any:
    """The problem of the study with these overrides, for models from outside: `problem("tunnel=recall")`.

    It has `evaluation` (numpy arrays), `batches(seed)` (an endless iterator of training batches) and
    `judge(log_q_or_callable, name=…)`; see `external/posed.py`.
    """
    from windtunnel.canary import check_compiler
    from windtunnel.external import pose

    check_compiler()
    return pose(*overrides)


class _Package(ModuleType):
    """Keeps the functions `load` and `problem`, which Python would replace by the modules of the same names."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("load", "problem"):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

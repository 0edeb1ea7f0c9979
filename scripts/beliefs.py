"""What a trained model holds of the belief, beside nulls: python scripts/beliefs.py FOLDER …

For `belief` on a fixed chain: the mean distance of the learned transition from the true one, |T − T*| over entries,
under the permutation of slots that makes it smallest; beside that of the identity, which knows only that states stay,
and that of the untrained model. For all: R² of a linear read-out of the exact log-posterior over states from `belief`,
`memory`, `state` or `residual`, fitted on half of the sequences and scored on the other half, beside the same of an
untrained model.
"""

import itertools
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import windtunnel
from page import table
from windtunnel.instruments.base import Seen, Subject, fresh
from windtunnel.models.belief import FAR
from windtunnel.report.numbers import number
from windtunnel.train import prepare

KINDS = ("belief", "memory", "state", "residual")  # the first that a model shows is read
RIDGE = 1e-3
HEAD = ["study", "T from T*", "identity", "untrained", "read from", "R²", "R² untrained"]


def distance(transition_MM: np.ndarray, truth_MM: np.ndarray) -> float:
    """Mean |T − T*|, at the best permutation of the slots."""
    orders = map(list, itertools.permutations(range(len(truth_MM))))
    return min(float(np.abs(transition_MM[np.ix_(order, order)] - truth_MM).mean()) for order in orders)


def distances(study: Any, *params: Any) -> list[float] | None:
    """The distances of these parameters' transitions, and of the identity, from the chain's; None where not defined."""
    tunnel = study.tunnel
    if study.model.name != "belief" or study.model.chains > 1 or getattr(tunnel, "parameters", None) != "fixed":
        return None
    truth_SS = np.asarray(prepare(study).transition[0])
    if study.model.slots != len(truth_SS):
        return None
    learned = [jax.nn.softmax(FAR * p["layers"]["0"]["transition"][0]) for p in params]
    return [distance(np.asarray(transition), truth_SS) for transition in [*learned, np.eye(len(truth_SS))]]


def readout(study: Any, seen: Seen) -> tuple[str, float]:
    """(kind, R²) of the linear read-out. What a token reads from memory was written before it, so the memory of the
    next token is read.
    """
    kind = next(kind for kind in KINDS if kind in seen.taps)
    values_BTF = np.asarray(next(iter(seen.taps[kind].values())), float)
    values_BTF = values_BTF.reshape(*values_BTF.shape[:2], -1)
    tables = study.tunnel.prepare(study.horizon)
    log_p_BPS = np.asarray(study.tunnel.log_posterior(tables, seen.batch, jnp.arange(study.horizon)), float)
    later = kind == "memory"
    tokens = np.asarray(seen.tokens)[: -1 if later else None]
    x_BPF, y_BPS = values_BTF[:, tokens + later], np.maximum(log_p_BPS[:, : len(tokens)], -20)
    half = len(x_BPF) // 2
    x = x_BPF - x_BPF[:half].mean((0, 1))
    x = x / (x[:half].std((0, 1)) + 1e-9)
    mean_S = y_BPS[:half].mean((0, 1))
    fit_x, fit_y = x[:half].reshape(-1, x.shape[-1]), (y_BPS[:half] - mean_S).reshape(-1, y_BPS.shape[-1])
    weights = np.linalg.solve(fit_x.T @ fit_x + RIDGE * len(fit_x) * np.eye(x.shape[-1]), fit_x.T @ fit_y)
    error = y_BPS[half:] - mean_S - x[half:] @ weights
    return kind, float(1 - np.mean(error**2) / np.mean((y_BPS[half:] - y_BPS[half:].mean((0, 1))) ** 2))


def cells(folder: Path) -> list[str]:
    study, _, params = windtunnel.load(folder)
    subject = Subject(study, params)
    trained, untrained, identity = distances(study, params, fresh(study)) or [None] * 3
    kind, r2 = readout(study, subject.seen)
    _, null = readout(study, subject.untrained)
    gaps = ["" if gap is None else number(gap) for gap in (trained, identity, untrained)]
    return [folder.name, *gaps, f"`{kind}`", f"{r2:.3f}", f"{null:.3f}"]


def main() -> None:
    print(table(HEAD, [cells(Path(folder)) for folder in sys.argv[1:]], [1, 2, 3, 5, 6]))


if __name__ == "__main__":
    main()

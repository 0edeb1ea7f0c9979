"""What a model from outside predicts: checked, judged, and recorded beside native studies."""

import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from windtunnel import records
from windtunnel.compare import finite, mean_and_error
from windtunnel.errors import BadInput
from windtunnel.external.exported import read
from windtunnel.external.posed import Posed
from windtunnel.information import kl_bits
from windtunnel.spec import digest, plain
from windtunnel.sweep.facts import environment, facts_of_problem

UNNORMALISED = 1e-3  # by how much probabilities may miss one: float16 does by a few 1e-4
NAME = re.compile(r"[\w.+-]{1,64}")


class Predictions(NamedTuple):
    """`values` [B, P, V] as they were given: `kind` is `log_q` (nats) or `logits`."""

    values: np.ndarray
    kind: str
    other_mass: np.ndarray | None = None


def judge(
    folder: Path, file: Path, name: str, seed: int, runs: Path, plugins: tuple[str, ...] = ()
) -> tuple[Path, str]:
    """The folder of the record, and which kind of predictions it was made of."""
    check_name(name)
    posed = read(folder, plugins)
    predictions = load(file, posed)
    return record(posed, predictions, name, seed, runs, str(file))[0], predictions.kind


def check_name(name: str) -> None:
    """A name is part of a folder's, and a word in tables."""
    if not NAME.fullmatch(name):
        raise BadInput(f"name={name}: should be of letters, digits and . _ + -, at most 64 of them")


def load(file: Path, posed: Posed) -> Predictions:
    """From an npz file with the problem's `id`, `log_q` or `logits`, and perhaps `other_mass`."""
    try:
        with np.load(file, allow_pickle=False) as found:
            arrays = dict(found)
    except FileNotFoundError:
        raise BadInput(f"{file}: no such file") from None
    except (OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, zipfile.BadZipFile):
        raise BadInput(f"{file}: is no npz file of plain arrays; numpy.savez writes one") from None
    given = [kind for kind in ("log_q", "logits") if kind in arrays]
    if len(given) != 1:
        raise BadInput(f"{file}: holds {', '.join(arrays) or 'nothing'}; give one of log_q (nats) and logits")
    if "id" not in arrays:
        raise BadInput(f"{file}: has no id; add id={posed.problem.id!r}, that of problem.json")
    if str(arrays["id"]) != posed.problem.id:
        raise BadInput(f"{file}: answers the problem {arrays['id']}, and this one is {posed.problem.id}")
    return Predictions(arrays[given[0]], given[0], arrays.get("other_mass"))


def normalised(posed: Posed, given: Predictions, where: str) -> np.ndarray:
    """[B, P, V]: log-probabilities (nats) of the outcomes among themselves; `BadInput` where they cannot be any."""
    exact = posed.exact
    expected = exact.log_predictive.shape
    if given.values.shape != expected:
        raise BadInput(
            f"{where}: {given.kind} has shape {list(given.values.shape)}; should be {list(expected)} [B, P, V]"
        )
    if not np.issubdtype(given.values.dtype, np.floating):
        raise BadInput(f"{where}: {given.kind} is {given.values.dtype}; should be floats")
    values = given.values.astype(np.float64)
    counts_BP = exact.weight > 0
    wrong_BP = (np.isnan(values) | (values == np.inf)).any(axis=-1) & counts_BP
    if wrong_BP.any():
        b, p = np.argwhere(wrong_BP)[0]
        raise BadInput(
            f"{where}: {given.kind} is not a number at sequence {b}, prediction {p} ({wrong_BP.sum()} in all)"
        )
    values = np.where(counts_BP[..., None], values, 0.0)
    log_total = np.logaddexp.reduce(values, axis=-1, keepdims=True)
    nothing_BP = log_total[..., 0] == -np.inf
    if nothing_BP.any():
        b, p = np.argwhere(nothing_BP)[0]
        raise BadInput(
            f"{where}: {given.kind} allows no outcome at sequence {b}, prediction {p} ({nothing_BP.sum()} in all)"
        )
    other_BP = _other(given, expected[:2], where)
    if given.kind == "log_q":
        with np.errstate(over="ignore"):
            off_BP = np.where(counts_BP, np.abs(np.exp(log_total[..., 0]) + other_BP - 1), 0.0)
        if off_BP.max() > UNNORMALISED:
            b, p = np.unravel_index(off_BP.argmax(), off_BP.shape)
            what = "with other_mass they should sum to one" if given.other_mass is not None else "should sum to one"
            raise BadInput(
                f"{where}: log_q: {what}; the largest deviation is {off_BP.max():.3g}, at sequence {b}, prediction {p} "
                "(if they are not normalised, call them logits)"
            )
    log_q = values - log_total
    _check_order(posed, log_q, where)
    return log_q


def _other(given: Predictions, shape: tuple[int, ...], where: str) -> np.ndarray:
    if given.other_mass is None:
        return np.zeros(shape)
    other = np.asarray(given.other_mass, np.float64)
    if other.shape != shape or not ((other >= 0) & (other <= 1)).all():
        raise BadInput(f"{where}: other_mass should be {list(shape)} probabilities [B, P]")
    return other


def _check_order(posed: Posed, log_q: np.ndarray, where: str) -> None:
    """Refuse predictions that are worse than knowing nothing, and good once their outcomes are put in another order."""
    from scipy.optimize import linear_sum_assignment

    exact = posed.exact
    weight, p = exact.weight[..., None], np.exp(exact.log_predictive.astype(np.float64))
    finite = np.maximum(log_q, -60.0)  # a probability of 1e-26 is as wrong as zero
    gain = np.einsum("bpu,bpv->uv", weight * p, finite)  # of outcome u, were column v its own
    _, order = linear_sum_assignment(gain, maximize=True)
    if (order == np.arange(len(order))).all():
        return

    def mean(of: np.ndarray) -> float:
        return mean_and_error(kl_bits(exact.log_predictive, of), exact.weight)[0]

    as_given, in_order, blind = mean(finite), mean(finite[..., order]), mean(exact.baselines["prior"])
    if as_given > blind and in_order < blind / 2:
        raise BadInput(
            f"{where}: outcomes seem to be in another order: with the columns {order.tolist()} KL falls from "
            f"{as_given:.2g} to {in_order:.2g} bits; the outcomes of a prediction go from 0 to {len(order) - 1}"
        )


def record(
    posed: Posed, given: Predictions, name: str, seed: int, runs: Path, where: str = "predictions"
) -> tuple[Path, dict[str, Any]]:
    """Judge predictions, write the record down, and return its folder and the verdict."""
    check_name(name)
    problem = posed.problem
    log_q = normalised(posed, given, where)
    records.writable(runs)
    root = runs / "external"
    folder = root / "-".join([problem.tunnel.name, name, f"seed{seed}", digest([problem.id, name, seed])])
    asked = plain(problem)
    study = {"tunnel": asked["tunnel"], "train": {"horizon": problem.horizon}, "evaluate": asked["evaluate"],
             "model": {"name": name}, "seed": seed}  # fmt: skip
    facts = {**facts_of_problem(problem), "position": None, "model": name, "seed": seed}
    content = {"external": given.kind, "study": study, "overrides": {"model": name}}
    content |= {"plugins": posed.plugins}
    records.write_sealed(folder / "study.json", {**content, "facts": facts, **environment()})
    more: dict[str, Any] = {}
    if given.other_mass is not None:
        other = _other(given, log_q.shape[:2], where)
        for key, weigh in (("other_mass", problem.bins.inside_P), ("other_mass_past", problem.bins.past_P)):
            mean, error = mean_and_error(other, posed.exact.weight * weigh)
            more |= {key: finite(mean), f"{key}_se": finite(error)}
    result = posed._judge.case(problem, log_q).close(folder, more)
    records.write_results(root)
    return folder, result

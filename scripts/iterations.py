"""What iterations do, at equal FLOPs: python scripts/iterations.py FOLDER …

A row has the KL to the exact posterior (bits), in range and past the horizon, after n layers were applied. A model with
adaptive depth is stopped after n iterations, and where each token stops by itself, with the mean number that it then
takes: what is exact in one step should get no worse at 100. A transformer of fixed depth stands where it applies n
layers: layers of one width cost the same, so a column compares equal FLOPs.

And whether depth follows need: Spearman's rank correlation, within a position in range and then averaged, between the
iterations of a token and what its prediction needs: the hops that its question asks for, or else the smallest w whose
exact reasoner `last-w` is within τ of all there is to know. Below the table, its mean over studies and a 95 % interval.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr

import windtunnel
from page import table
from windtunnel.config import Study
from windtunnel.evaluate import Predicted, predict
from windtunnel.information import kl_bits
from windtunnel.models import Depth
from windtunnel.problem import Exact, exact_program
from windtunnel.records.statistics import mean_interval
from windtunnel.report.numbers import number
from windtunnel.spec import arrays

COUNTS, EXAMPLES = (1, 2, 3, 4, 6, 10, 30, 100), 64
HEAD = ["study", "where", *(f"KL at {n}" for n in COUNTS), "KL settled", "iterations", "not converged", "ρ with need"]


@partial(jax.jit, static_argnames="examples")
def predicted(study: Study, params: Any, examples: int) -> Predicted:
    return predict(study, params, jnp.arange(examples))


def need(exact: Exact, horizon: int, tolerance: float) -> np.ndarray:
    """[B, P]: the hops that are asked for; or the smallest window that is enough, the horizon where none is."""
    if exact.asked is not None:
        return np.asarray(exact.asked)
    windows = {name: int(name[5:]) for name in exact.baselines if name[5:].isdigit()}
    enough = np.full(exact.weight.shape, horizon)
    for name, window in sorted(windows.items(), key=lambda pair: -pair[1]):
        gap_BP = kl_bits(np.asarray(exact.log_predictive), np.asarray(exact.baselines[name]))
        enough = np.where(gap_BP <= tolerance, window, enough)
    return enough


def correlation(used_BP: np.ndarray, need_BP: np.ndarray) -> float:
    """The mean over positions at which both differ between sequences; NaN where there is none."""
    pairs = [pair for pair in zip(used_BP.T, need_BP.T, strict=True) if all(len(set(of)) > 1 for of in pair)]
    return float(np.mean([spearmanr(*pair).statistic for pair in pairs])) if pairs else float("nan")


def means(study: Study, exact: Exact, now: Predicted) -> list[float]:
    """KL in range and past the horizon; only the first where nothing lies past it."""
    gap_BP = kl_bits(np.asarray(exact.log_predictive), np.asarray(now.log_predictive))
    bins, weight_BP = study.problem.bins, np.asarray(exact.weight)
    weights = [weight_BP * where_P for where_P in (bins.inside_P, bins.past_P) if where_P.any()]
    return [float((gap_BP * weight).sum() / weight.sum()) for weight in weights]


def rows(folder: Path) -> tuple[list[list[str]], float]:
    """A row for each of `means`, and the correlation of depth with need, NaN where depth is fixed."""
    study, _, params = windtunnel.load(folder)
    one = replace(study, evaluate=replace(study.evaluate, examples=EXAMPLES))
    exact = exact_program(arrays(one.problem))

    def at(depth: Depth | None) -> Predicted:
        model = one.model if depth is None else replace(one.model, depth=arrays(depth))
        return predicted(replace(one, model=model), params, EXAMPLES)

    if study.model.depth is None:
        applied = study.model.layers * getattr(study.model, "loops", 1)
        kl = means(one, exact, at(None))
        columns = [[number(gap) if n == applied else "" for n in COUNTS] for gap in kl]
        ends, rho = [["", "", "", ""]] * len(kl), float("nan")
    else:
        fixed = [means(one, exact, at(Depth(max_iterations=n, tolerance=0.0))) for n in COUNTS]
        columns = [[number(gap) for gap in of] for of in zip(*fixed, strict=True)]
        now = at(study.model.depth)
        iterations: Any = now.iterations
        used_BP, settled_BP = np.asarray(iterations.used_BP), np.asarray(iterations.settled_BP)
        bins, need_BP = study.problem.bins, need(exact, study.horizon, study.evaluate.tolerance)
        rho = correlation(used_BP[:, bins.inside_P > 0], need_BP[:, bins.inside_P > 0])
        ends = []
        for gap, where_P in zip(means(one, exact, now), (bins.inside_P > 0, bins.past_P > 0), strict=False):
            missed = float(1 - settled_BP[:, where_P].mean())
            ends.append([number(gap), f"{used_BP[:, where_P].mean():.1f}", f"{missed:.3f}", ""])
        ends[0][-1] = f"{rho:.2f}"
    places = zip(("in range", "past"), columns, ends, strict=False)
    return [[folder.name, where, *column, *end] for where, column, end in places], rho


def main() -> None:
    studies = [rows(Path(folder)) for folder in sys.argv[1:]]
    print(table(HEAD, [row for of, _ in studies for row in of], range(2, len(HEAD))))
    rhos = [rho for _, rho in studies if np.isfinite(rho)]
    if len(rhos) > 1:
        mean, low, high, _ = mean_interval(rhos)
        print(f"\nρ with need, {len(rhos)} studies: {mean:.2f} [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()

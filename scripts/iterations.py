"""What iterations do in models with adaptive depth: python scripts/iterations.py FOLDER …

KL to the exact posterior (bits, in range) after exactly 1, 2, 3 … iterations, and where each token stops by itself,
with the mean number that it then takes: what is exact in one step should get no worse at 100. And whether depth follows
need: Spearman's rank correlation, within a position and then averaged, between the iterations of a token and the window
that its prediction needs, the smallest w whose exact reasoner `last-w` is within τ of all there is to know.
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
from windtunnel.report.numbers import number
from windtunnel.spec import arrays

COUNTS, EXAMPLES = (1, 2, 3, 4, 6, 10, 30, 100), 64
HEAD = ["study", *(f"KL at {n}" for n in COUNTS), "KL settled", "iterations", "not converged", "ρ with need"]


@partial(jax.jit, static_argnames="examples")
def predicted(study: Study, params: Any, examples: int) -> Predicted:
    return predict(study, params, jnp.arange(examples))


def need(exact: Any, horizon: int, tolerance: float) -> np.ndarray:
    """[B, P]: the smallest window that is enough; the horizon where none below it is."""
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


def cells(folder: Path) -> list[str]:
    study, _, params = windtunnel.load(folder)
    one = replace(study, evaluate=replace(study.evaluate, reach=1.0, examples=EXAMPLES))
    exact = jax.jit(lambda problem: problem.exact())(one.problem)
    weight_BP = np.asarray(exact.weight)

    def at(depth: Depth) -> tuple[float, Predicted]:
        now = predicted(replace(one, model=replace(one.model, depth=arrays(depth))), params, EXAMPLES)
        gap_BP = kl_bits(np.asarray(exact.log_predictive), np.asarray(now.log_predictive))
        return float((gap_BP * weight_BP).sum() / weight_BP.sum()), now

    fixed = [number(at(Depth(max_iterations=n, tolerance=0.0))[0]) for n in COUNTS]
    settled, now = at(study.model.depth)
    iterations: Any = now.iterations
    used_BP = np.asarray(iterations.used_BP)
    rho = correlation(used_BP, need(exact, study.horizon, study.evaluate.tolerance))
    missed = float(1 - np.asarray(iterations.settled_BP).mean())
    return [folder.name, *fixed, number(settled), f"{used_BP.mean():.1f}", f"{missed:.3f}", f"{rho:.2f}"]


def main() -> None:
    print(table(HEAD, [cells(Path(folder)) for folder in sys.argv[1:]], range(1, len(HEAD))))


if __name__ == "__main__":
    main()

"""The judge: holds what a model predicts against what exact reasoners say, and writes the verdict down."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from windtunnel import records
from windtunnel.compare import verdict
from windtunnel.compiled import Compiled
from windtunnel.config import evaluate_id
from windtunnel.problem import Exact, Problem, exact_program
from windtunnel.spec import arrays, plain


class Judge:
    """What exact reasoners say is worked out once for each problem."""

    def __init__(self) -> None:
        self.compiled = Compiled()
        self._exact: dict[str, Exact] = {}

    def exact(self, problem: Problem) -> Exact:
        """The exact answers, as numpy arrays."""
        if problem.id not in self._exact:
            knobs = arrays(problem)
            program = self.compiled.get(jax.tree.structure(problem), exact_program, knobs)
            self._exact[problem.id] = jax.tree.map(np.asarray, program(knobs))
        return self._exact[problem.id]

    def judge(self, folder: Path, problem: Problem, log_q_BPV: np.ndarray, facts: records.Json) -> records.Json:
        """Write down, and return, the verdict on a model that says `log_q_BPV` (nats), and what else is known of it."""
        numbers, curves = verdict(problem, self.exact(problem), log_q_BPV)
        (folder / "error.txt").unlink(missing_ok=True)
        records.write_curves(folder / "curves.npz", curves)
        settings = {"evaluate": plain(problem.evaluate), "evaluate_id": evaluate_id(problem)}
        result = {**numbers, **facts}
        records.write_json(folder / "result.json", {**settings, "reach": problem.evaluate.reach, **result})
        return result


def attention_facts(reading: Any, index: int) -> records.Json:
    """How a layer's attention was computed for a study of a pack, over its examples."""
    return {
        "kernel": reading.kernel,
        "skipped_blocks": float(reading.skipped_B[index].mean()),
        "skipped_mass_bound": float(reading.mass_B[index].max()),
    }

"""The judge: holds what a trained study predicts against what exact reasoners say."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from windtunnel import records
from windtunnel.compare import Binned, compare
from windtunnel.config import Study, digest, evaluate_id, plain
from windtunnel.evaluate import Predicted, exact, scored_bins
from windtunnel.example import example
from windtunnel.recovery import recovery
from windtunnel.spec import arrays
from windtunnel.sweep.packs import Compiled

exact_program = jax.jit(exact)


class Judge:
    """What exact reasoners say is worked out once for each tunnel."""

    def __init__(self) -> None:
        self.compiled = Compiled()
        self.exact: dict[str, Any] = {}

    def judge(self, folder: Path, study: Study, params: Any, predicted: Predicted, index: int) -> records.Json:
        """Write down, and return, the verdict on study `index` of a pack."""
        answers = self._exact(study)
        numbers, curves = compare(
            Binned(scored_bins(study), study.horizon),
            answers.log_predictive,
            np.asarray(predicted.log_predictive[index]),
            answers.baselines,
            answers.weight,
            study.evaluate.tolerance,
            study.evaluate.settled,
            study.tunnel.limit_bits,
            answers.full,
            study.tunnel.recursive,
        )
        (folder / "error.txt").unlink(missing_ok=True)
        records.write_curves(folder / "curves.npz", curves)
        records.write_curves(folder / "example.npz", example(study, params))
        settings = {"evaluate": plain(study.evaluate), "evaluate_id": evaluate_id(study)}
        numbers |= recovery(study, params)
        numbers["attention"] = [attention_facts(reading, index) for reading in predicted.readings]
        records.write_json(folder / "result.json", {**settings, "reach": study.evaluate.reach, **numbers})
        return numbers

    def _exact(self, study: Study) -> Any:  # an `Exact` of numpy arrays
        key = digest([plain(study.tunnel), plain(study.evaluate), study.horizon])
        if key not in self.exact:
            made = arrays(study)
            program = self.compiled.get(jax.tree.structure(study), exact_program, made)
            self.exact[key] = jax.tree.map(np.asarray, program(made))
        return self.exact[key]


def attention_facts(reading: Any, index: int) -> records.Json:
    """How a layer's attention was computed for a study of a pack, over its examples."""
    return {
        "kernel": reading.kernel,
        "skipped_blocks": float(reading.skipped_B[index].mean()),
        "skipped_mass_bound": float(reading.mass_B[index].max()),
    }

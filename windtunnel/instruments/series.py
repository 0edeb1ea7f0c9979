"""`probe.every=N`: the cheap instruments in training, as a time series in each study's `probe.jsonl`."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from windtunnel import records
from windtunnel.compare import mean_and_error
from windtunnel.config import Study
from windtunnel.information import kl_bits
from windtunnel.instruments import consistency, dynamics, geometry
from windtunnel.instruments.base import Json, Subject, finite
from windtunnel.spec import arrays


class Series:
    """Measures every study of a pack at the steps 0, N, 2N, … and at the last one. It does not change training."""

    def __init__(self, folders: list[Path], studies: list[Study], every: int):
        self.folders, self.studies, self.every = folders, [arrays(study) for study in studies], every
        self.steps = studies[0].train.steps

    def room(self, done: int) -> int:
        """Steps until the next measurement."""
        return self.every - done % self.every

    def due(self, done: int) -> bool:
        """Whether this step is measured."""
        return not done % self.every or done == self.steps

    def look(self, done: int, params: Any) -> None:
        """Add a row to each study's series. A pack that resumes from a checkpoint drops the rows after it. A study
        whose parameters are not finite gets no more rows.
        """
        for index, (folder, study) in enumerate(zip(self.folders, self.studies, strict=True)):
            own_params = jax.tree.map(lambda leaf, i=index: np.asarray(leaf[i]), params)
            if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(own_params)):
                continue
            path = folder / "probe.jsonl"
            try:
                before = records.read_lines(path, records.STEP) if path.exists() and done else []
            except records.Damaged:
                records.set_aside(path)
                before = []
            rows = [*(row for row in before if row["step"] < done), {"step": done, **row(Subject(study, own_params))}]
            records.write(path, "".join(json.dumps(entry, allow_nan=False) + "\n" for entry in rows))


def row(subject: Subject) -> Json:
    """KL on sequences that training never sees, and the headlines of the cheap instruments that apply."""
    seen = subject.seen
    kl_BP = kl_bits(np.asarray(seen.log_exact_BPV), np.asarray(seen.log_model_BPV))
    numbers: Json = {"kl_bits": mean_and_error(kl_BP, np.asarray(seen.batch.weight_BP, np.float64))[0]}
    for instrument, look in (
        (geometry, geometry.measure),
        (consistency, consistency.observe),
        (dynamics, dynamics.measure),
    ):
        if instrument.refusal(subject) is None:
            numbers |= instrument.headline(look(subject))
    return finite(numbers)

"""The checks of a pack while it trains: on the host, between two calls of `advance`, into each study's `health.jsonl`.

A check reads parameters and changes nothing, so a study that is watched trains as one that is not, bit for bit.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windtunnel import records
from windtunnel.compiled import Compiled
from windtunnel.config import Study
from windtunnel.instruments.base import fresh
from windtunnel.monitor import look
from windtunnel.monitor.costs import Costs, costs
from windtunnel.monitor.monitors import FAILS, Check, readings
from windtunnel.records import Json
from windtunnel.records.health import NAME, read_health, text
from windtunnel.spec import arrays

BEFORE = np.int32(-1)  # a step at which no fault is in force

Log = Callable[[int, int, dict[str, float]], None]  # of a study's index, a step, and numbers by name


class Watcher:
    """Checks every study of a pack whose `monitor.every` says so."""

    def __init__(self, folders: list[Path], studies: list[Study], compiled: Compiled, log: Log):
        self.folders, self.studies, self.compiled, self.log = folders, studies, compiled, log
        self.knobs = [arrays(study) for study in studies]
        self.steps = studies[0].train.steps
        self._asked: dict[str, look.Asked] = {}
        self._nulls: dict[int, Check] = {}
        self._costs: Costs | None = None

    def room(self, done: int) -> int:
        """Steps until the next check of any study."""
        every = [study.monitor.every for study in self.studies if study.monitor.every]
        return min((each - done % each for each in every), default=self.steps)

    def due(self, index: int, done: int) -> bool:
        every = self.studies[index].monitor.every
        return bool(every) and (not done % every or done == self.steps)

    def any_due(self, done: int) -> bool:
        return any(self.due(index, done) for index in range(len(self.studies)))

    def checks(self, done: int, params: Any) -> None:
        """Check every study that is due; `params` are the pack's, on the host."""
        for index in range(len(self.studies)):
            if self.due(index, done):
                self.check(index, done, jax.tree.map(lambda leaf, i=index: np.asarray(leaf[i]), params))

    def check(self, index: int, done: int, params: Any) -> Json:
        """Add a row to a study's `health.jsonl`, and return it."""
        rows = self.before(index, done)
        known = rows[-1]["monitors"]["convergence"]["value"] if rows else None
        measured = readings(self.measured(index, done, params, known), self.null(index))
        row: Json = {"step": done, "monitors": measured, "events": self.events(index, done, measured, rows)}
        records.write(self.folders[index] / NAME, text([*rows, row]))
        numbers = {f"monitor/{name}": of["value"] for name, of in measured.items() if of["value"] is not None}
        numbers["monitor/alarms"] = float(sum(event["what"] == "alarm" for event in row["events"]))
        self.log(index, done, numbers)
        return row

    def before(self, index: int, done: int) -> list[Json]:
        """The rows of checks before this one: a pack that goes on from a checkpoint writes those after it again."""
        try:
            rows = read_health(self.folders[index]) if done > self.studies[index].monitor.every else []
        except records.Damaged:
            records.set_aside(self.folders[index] / NAME)
            rows = []
        return [row for row in rows if row["step"] < done]

    def events(self, index: int, done: int, measured: Json, rows: list[Json]) -> list[Json]:
        """A fault that has struck since the last check, and alarms: monitors that fail, and did not."""
        fault, since = self.studies[index].monitor.fault, rows[-1]["step"] if rows else 0
        events: list[Json] = []
        if fault.name is not None and since <= fault.step < done:
            events.append({"what": "fault", "fault": fault.name, "step": fault.step, "steps": fault.steps})
        for name, of in measured.items():
            earlier = [row["monitors"].get(name, {}).get("state") for row in rows[-1:]]
            fails_anew = of["state"] == FAILS and earlier not in ([FAILS], [])
            if fails_anew or (name == "not_finite" and of["state"] == FAILS and earlier != [FAILS]):
                events.append({"what": "alarm", "monitor": name, "value": of["value"]})
        return events

    def measured(self, index: int, done: int, params: Any, known: float | None) -> Check:
        study, step = self.knobs[index], np.int32(done)
        seen = self._run("seen", look.seen, study, params, step)
        exchanged = self._run("exchanged", look.exchanged, study, params, step) if study.tunnel.exchangeable else None
        not_finite = int(sum((~np.isfinite(leaf)).sum() for leaf in jax.tree.leaves(params)))
        if done == self.steps and self.studies[index].monitor.costs and self._costs is None:
            self._costs = costs(study, params)
        spent = self._costs if done == self.steps else None
        return Check(self.studies[index], self.asked(index), seen, exchanged, spent, not_finite, known)

    def asked(self, index: int) -> look.Asked:
        """What exact inference says, once for each problem."""
        problem = self.studies[index].problem.id
        if problem not in self._asked:
            self._asked[problem] = self._run("asked", look.asked, self.knobs[index])
        return self._asked[problem]

    def null(self, index: int) -> Check:
        """The same check of a model that is not trained."""
        if index not in self._nulls:
            params = jax.tree.map(np.asarray, self._compiled("fresh", fresh, self.knobs[index])(self.knobs[index]))
            self._nulls[index] = self.measured(index, -1, params, None)
        return self._nulls[index]

    def _run(self, name: str, function: Any, *arguments: Any) -> Any:
        return jax.tree.map(np.asarray, self._compiled(name, function, *arguments)(*arguments))

    def _compiled(self, name: str, function: Any, *arguments: Any) -> Any:
        arguments = jax.tree.map(jnp.asarray, arguments)
        return self.compiled.get((name, jax.tree.structure(arguments)), function, *arguments)

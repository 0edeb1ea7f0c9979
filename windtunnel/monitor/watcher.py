"""The checks of a pack while it trains: on the host, between two calls of `advance`, into each study's `health.jsonl`.

A check reads parameters and changes nothing, so a study that is watched trains as one that is not, bit for bit. Only
where `monitor.recover` says so, something is done about what it finds (`recoveries.py`), in that study alone.
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
from windtunnel.instruments.base import fresh, no_attention
from windtunnel.monitor import closed, look, recoveries
from windtunnel.monitor.costs import Costs, costs
from windtunnel.monitor.monitors import FAILS, Check, readings
from windtunnel.monitor.recoveries import Served, Watch
from windtunnel.records import Json
from windtunnel.records.health import NAME, read_health, text
from windtunnel.spec import arrays

Log = Callable[[int, int, dict[str, float]], None]  # of a study's index, a step, and numbers by name


class Watcher:
    """Checks every study of a pack whose `monitor.every` says so. `watch` is what recoveries remember, and None where
    nothing is to be recovered.
    """

    def __init__(self, folders: list[Path], studies: list[Study], compiled: Compiled, log: Log):
        self.folders, self.studies, self.compiled, self.log = folders, studies, compiled, log
        self.steps = studies[0].train.steps
        self.recovers = any(study.monitor.recover.tries for study in studies)
        self.watch: Watch | None = None
        self._asked: dict[str, look.Asked] = {}
        self._nulls: dict[int, Check] = {}
        self._costs: Costs | None = None
        self._closes = self.recovers and closed.has_closed_form(studies[0])

    def begin(self, state: Any) -> Any:
        """What a checkpoint holds of a pack before its first step."""
        if self.recovers:
            attends = no_attention(self.studies[0]) is None
            heads = getattr(self.studies[0].model, "layers", 0) * self.studies[0].model.heads if attends else 0
            self.watch = recoveries.watch(state, len(self.studies), heads)
        return self.kept(state)

    def kept(self, state: Any) -> Any:
        """What a checkpoint holds: the state of training, and what recoveries remember of it."""
        return state if self.watch is None else {"state": state, "watch": self.watch}

    def taken(self, kept: Any) -> Any:
        """The inverse: the state of training."""
        if self.watch is None:
            return kept
        self.watch = jax.tree.map(np.array, kept["watch"])
        return kept["state"]

    def going_on(self) -> list[Study]:
        """The studies as they train on."""
        return [recoveries.going_on(study, self.served(index)) for index, study in enumerate(self.studies)]

    def served(self, index: int) -> Served:
        return Served() if self.watch is None else recoveries.served_by(self.watch, index)

    def facts(self, index: int) -> Json:
        """What a study's record says of how it answers after what was done."""
        return {} if self.watch is None else {"served": self.served(index)._asdict()}

    def lost(self) -> np.ndarray:
        """bool[S]: which studies are broken for good, once they are not finite."""
        if self.watch is None:
            return np.ones(len(self.studies), bool)
        return self.watch.lost | ~np.asarray([bool(study.monitor.recover.tries) for study in self.studies])

    def room(self, done: int) -> int:
        """Steps until the next check of any study."""
        every = [study.monitor.every for study in self.studies if study.monitor.every]
        return min((each - done % each for each in every), default=self.steps)

    def due(self, index: int, done: int) -> bool:
        every = self.studies[index].monitor.every
        return bool(every) and (not done % every or done == self.steps)

    def any_due(self, done: int) -> bool:
        return any(self.due(index, done) for index in range(len(self.studies)))

    def checks(self, done: int, state: Any) -> Any:
        """Check every study that is due. `state` is the pack's, on the host; the state to go on with, or None where
        nothing was done.
        """
        changed: dict[int, Any] = {}
        for index in range(len(self.studies)):
            if not self.due(index, done):
                continue
            own = jax.tree.map(lambda leaf, i=index: np.asarray(leaf[i]), state)
            rows = self.before(index, done)
            row = self.check(index, done, own.params, rows)
            if self.watch is not None and self.studies[index].monitor.recover.tries:
                was = self.served(index)
                new, events = recoveries.recovered(self.studies[index], row, done, own, self.watch, index, self._closes)
                row["events"] += events
                if self.served(index).fell is not None and was.fell is None:
                    self.watch.slopes[index] = self.slopes(index)
                if new is not own or self.served(index) != was:
                    changed[index] = new
            records.write(self.folders[index] / NAME, text([*rows, row]))
            self._tell(index, row)
        if not changed:
            return None

        def put(leaf: Any, *own: Any) -> np.ndarray:
            leaf = np.array(leaf)
            leaf[list(changed)] = np.stack(own)
            return leaf

        return jax.tree.map(put, state, *changed.values())

    def check(self, index: int, done: int, params: Any, rows: list[Json]) -> Json:
        """A line of `health.jsonl`, after `rows`."""
        known = rows[-1]["monitors"]["convergence"]["value"] if rows else None
        measured = readings(self.measured(index, done, params, known), self.null(index))
        return {"step": done, "monitors": measured, "events": self.events(index, done, measured, rows)}

    def _tell(self, index: int, row: Json) -> None:
        numbers = {f"monitor/{name}": of["value"] for name, of in row["monitors"].items() if of["value"] is not None}
        for what in ("alarm", "recovery"):
            numbers[f"monitor/{what}"] = float(sum(event["what"] == what for event in row["events"]))
        self.log(index, row["step"], numbers)

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
        tokens = self.studies[index].monitor.recover.tokens
        if not rows and recoveries.served(self.studies[index]).model.inference != self.studies[index].model.inference:
            events.append({"what": "recovery", "recovery": f"hierarchical attention to more than {tokens} tokens"})
        for name, of in measured.items():
            earlier = [row["monitors"].get(name, {}).get("state") for row in rows[-1:]]
            fails_anew = of["state"] == FAILS and earlier not in ([FAILS], [])
            if fails_anew or (name == "not_finite" and of["state"] == FAILS and earlier != [FAILS]):
                events.append({"what": "alarm", "monitor": name, "value": of["value"]})
        return events

    def measured(self, index: int, done: int, params: Any, known: float | None) -> Check:
        study, step = arrays(recoveries.served(self.studies[index], self.served(index))), np.int32(done)
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
            self._asked[problem] = self._run("asked", look.asked, arrays(self.studies[index]))
        return self._asked[problem]

    def null(self, index: int) -> Check:
        """The same check of a model that is not trained."""
        if index not in self._nulls:
            params = self._run("fresh", fresh, arrays(self.studies[index]))
            self._nulls[index] = self.measured(index, -1, params, None)
        return self._nulls[index]

    def slopes(self, index: int) -> np.ndarray:
        """Of the heads that the closed form stands in for, when they were last good."""
        assert self.watch is not None
        good = jax.tree.map(lambda leaf: leaf[index], self.watch.good.params)
        return closed.slopes(arrays(self.studies[index]), good)

    def _run(self, name: str, function: Any, *arguments: Any) -> Any:
        return jax.tree.map(np.asarray, self._compiled(name, function, *arguments)(*arguments))

    def _compiled(self, name: str, function: Any, *arguments: Any) -> Any:
        arguments = jax.tree.map(jnp.asarray, arguments)
        return self.compiled.get((name, jax.tree.structure(arguments)), function, *arguments)

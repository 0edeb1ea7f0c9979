"""The training of a pack on the host: calls of `advance`, checkpoints, notes of how far it is, and the records."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from windtunnel import checkpoint, records
from windtunnel.compiled import finish
from windtunnel.errors import StudyFailed
from windtunnel.losses import curve_names
from windtunnel.progress import Display
from windtunnel.spec import plain
from windtunnel.sweep.facts import knobs_of, write_study
from windtunnel.sweep.packs import Program
from windtunnel.sweep.point import Point, title
from windtunnel.sweep.saved import Saved, Training, blank, devices
from windtunnel.sweep.stop import Stop
from windtunnel.trackers import Tracking
from windtunnel.train import CHUNK

CALL_SECONDS = 1.0  # how long one call of `advance` should take: progress and Ctrl-C wait for it
NOTE_SECONDS = 5.0  # how often a pack says how far it is


class Trainer:
    """Trains packs in a folder, and writes down what a study is and what it has learned."""

    def __init__(
        self,
        root: Path,
        display: Display,
        tracking: Tracking,
        stop: Stop,
        checkpoint_seconds: float,
        fail_fast: bool,
        probe_every: int | None,
    ):
        self.root, self.display, self.tracking, self.stop = root, display, tracking, stop
        self.checkpoint_seconds, self.fail_fast, self.probe_every = checkpoint_seconds, fail_fast, probe_every

    def train(self, number: int, whole: list[Point], points: list[Point], program: Program, cut: str | None) -> None:
        """Train a part of a pack and split it into studies; `cut` says why it is not the whole."""
        size, steps = len(points), points[0].study.train.steps
        saved = Saved(self.root, [point.id for point in points])
        saved.begin(steps)
        for point in points:
            write_study(self.root / point.id, point, {"name": saved.folder.name, "studies": size, "cut": cut})
            (self.root / point.id / "error.txt").unlink(missing_ok=True)
            self.tracking.begin(point.id, plain(point.study))
        curves = blank(curve_names(points[0].study.train), size, steps)
        watcher = self._watcher(points, program)
        state = program.start()
        begun = watcher.begin(program.fetch(state)) if watcher and watcher.recovers else state
        now = Training(begun, curves, np.int32(0), np.float32(0))
        saved.adopt([point.id for point in whole], now)
        now = self._resumed(number, points, program, saved, now, watcher)
        program.memory("advance")  # compiled before the clock starts
        if jax.default_backend() == "cpu":
            finish()  # compilers would take the cores that train
        saved.note_compilations(program.compiled.take())
        state, done, seconds = self._advance(number, points, program, saved, now, watcher)
        self.display.show(number, title(points), (steps - done) * size)
        learned_params = program.fetch(state).params
        count = sum(leaf[0].size for leaf in jax.tree.leaves(learned_params))
        params = program.finish(learned_params)
        broken = self._broken(now.curves["kl_bits"][:, :done], watcher)
        for index, point in enumerate(points):
            learned = {name: curve[index, :done] for name, curve in now.curves.items()}
            if broken[index]:
                self._write_broken(point, learned)
            elif done == steps:
                own_params = jax.tree.map(lambda leaf, i=index: leaf[i], params)
                facts = watcher.facts(index) if watcher else {}
                self._write_trained(
                    point, own_params, count, learned, program.compile_seconds / size, seconds / size, facts
                )
        if done < steps and not broken.all():
            raise StudyFailed  # and the others go on another time
        saved.remove()

    def _resumed(
        self, number: int, points: list[Point], program: Program, saved: Saved, fresh: Training, watcher: Any
    ) -> Training:
        """The training that was saved; a fresh one where none was, or what was is damaged. Its state is on the devices,
        and the watcher has what is its own.
        """

        def begun(now: Training) -> Training:
            state = watcher.taken(now.state) if watcher else now.state
            return now._replace(state=program.resume(state) if now is not fresh or state is not now.state else state)

        if not saved.exists:
            return begun(fresh)
        try:
            now = saved.load(fresh)
        except records.Damaged as error:
            records.set_aside(saved.folder)
            self.display.say(f"{title(points)}: {error}; starts again, and what was there is kept as *{records.AWAY}")
            return begun(fresh)
        before = saved.devices
        self.display.say(
            f"{title(points)}: goes on from step {now.done}"
            + (
                f", here on {devices()} and before on {before}: the last bits may differ"
                if before not in (None, devices())
                else ""
            )
        )
        self.display.show(number, title(points), int(now.done) * len(points))
        return begun(now._replace(curves=jax.tree.map(np.array, now.curves)))

    def _advance(
        self, number: int, points: list[Point], program: Program, saved: Saved, now: Training, watcher: Any
    ) -> Any:
        """(state, steps done, seconds): to the end, until every study is broken, or with `fail_fast` until one is.

        `now.curves` are filled in.
        """
        size, steps, state, kl_bits = len(points), points[0].study.train.steps, now.state, now.curves["kl_bits"]
        done, seconds, count = int(now.done), float(now.seconds), 1
        last_saved, last_noted = time.monotonic(), 0.0
        series = self._series(points)
        program = program.tuned(watcher.going_on()) if watcher and watcher.recovers else program
        if series and not done:
            series.look(0, program.fetch(state).params)
        enough = np.any if self.fail_fast else np.all
        while done < steps and not enough(self._broken(kl_bits[:, :done], watcher)):
            count = min(count, steps - done, *(of.room(done) for of in (series, watcher) if of))
            began = time.perf_counter()
            state, curves = program.advance(state, count)
            for name, curve in now.curves.items():
                curve[:, done : done + count] = curves[name][:size, :count]
            took = time.perf_counter() - began
            done, seconds = done + count, seconds + took
            latest = kl_bits[:, max(0, done - 20) : done].mean(axis=1)
            self.display.show(number, title(points), count * size, latest.tolist())
            if series and series.due(done):
                series.look(done, program.fetch(state).params)
            if watcher and watcher.any_due(done):
                changed = watcher.checks(done, program.fetch(state))
                if changed is not None:
                    state, program = program.resume(changed), program.tuned(watcher.going_on())
            self._track(points, {name: curve[:, :done] for name, curve in now.curves.items()}, done - count)
            if time.monotonic() - last_noted >= NOTE_SECONDS:
                known = [float(value) if np.isfinite(value) else None for value in latest]
                saved.note(what="training", step=done, steady_seconds=seconds, kl_bits=known)
                last_noted = time.monotonic()
            count = int(np.clip(count * CALL_SECONDS / took, 1, min(CHUNK, 4 * count)))
            late = time.monotonic() - last_saved >= self.checkpoint_seconds
            fails = self.fail_fast and self._broken(kl_bits[:, :done], watcher).any()
            if late or done == steps or self.stop.asked or fails:
                kept = watcher.kept(program.fetch(state)) if watcher else program.fetch(state)
                saved.save(Training(kept, now.curves, np.int32(done), np.float32(seconds)))
                last_saved = time.monotonic()
            if done < steps:
                self.stop.check()
        saved.note(what="training", step=done, steady_seconds=seconds)
        return state, done, seconds

    def _broken(self, kl_bits: np.ndarray, watcher: Any) -> np.ndarray:
        """bool[S]: which studies are not finite, and nothing will recover them."""
        return np.asarray(~np.isfinite(kl_bits).all(axis=1) & (watcher.lost() if watcher else True))

    def _track(self, points: list[Point], curves: dict[str, np.ndarray], after: int) -> None:
        """Show the tracker the curves after a step."""
        if self.tracking.tracker is None:
            return
        for index, point in enumerate(points):
            learned = {name: curve[index] for name, curve in curves.items()}
            for row in records.learning_curve(learned, point.study.train.steps, after):
                known = {name: mean for name, mean in row.items() if name != "step" and mean is not None}
                self.tracking.log(point.id, row["step"], known)

    def _write_broken(self, point: Point, curves: dict[str, np.ndarray]) -> None:
        records.write_learning_curve(self.root / point.id / "train.jsonl", curves)
        broken = np.flatnonzero(~np.isfinite(curves["kl_bits"]))
        self.fail(point, f"the loss was not finite at step {broken[0] + 1}")

    def _write_trained(
        self,
        point: Point,
        params: Any,
        count: int,
        curves: dict[str, np.ndarray],
        compiling: float,
        seconds: float,
        facts: records.Json,
    ) -> None:
        folder, study = self.root / point.id, point.study
        records.write_learning_curve(folder / "train.jsonl", curves)
        tokens = study.train.steps * study.train.batch * study.tunnel.tokens(study.horizon)
        record = records.read_study(folder)
        record["parameters"] = checkpoint.fingerprint(params)
        record["facts"] |= {
            "parameters": count,
            "train_seconds": seconds,
            "compile_seconds": compiling,
            "tokens_per_second": tokens / seconds,
            **facts,
        }
        records.write_sealed(folder / "study.json", record)
        checkpoint.save(folder / "checkpoint", params)

    def fail(self, point: Point, why: str) -> None:
        """Write down, and say, that a study has failed alone."""
        knobs = {".".join(str(part.name) for part in path): float(leaf) for path, leaf in knobs_of(point.study)}
        records.write(self.root / point.id / "error.txt", f"{why}\nknobs: {knobs}\n")
        self.display.say(f"{point.id}: failed, {why}")

    def _watcher(self, points: list[Point], program: Program) -> Any:
        """What checks the studies while they train, if any is monitored."""
        if not any(point.study.monitor.every for point in points):
            return None
        from windtunnel.monitor.watcher import Watcher

        def log(index: int, step: int, numbers: dict[str, float]) -> None:
            self.tracking.log(points[index].id, step, numbers)

        folders = [self.root / point.id for point in points]
        return Watcher(folders, [point.study for point in points], program.compiled, log)

    def _series(self, points: list[Point]) -> Any:
        """What looks into the models while they train, where that is asked for."""
        if self.probe_every is None:
            return None
        from windtunnel.instruments.series import Series

        return Series([self.root / point.id for point in points], [point.study for point in points], self.probe_every)

"""The host's part of a run: it drives packs through training, evaluation and comparison, and writes the records."""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from windtunnel import checkpoint, records
from windtunnel.config import evaluate_id
from windtunnel.errors import StudyFailed
from windtunnel.evaluate import Predicted
from windtunnel.example import example
from windtunnel.judge import Case, Judge, attention_facts, iteration_curves, iteration_facts
from windtunnel.load import read_parameters
from windtunnel.losses import curve_names
from windtunnel.progress import Display
from windtunnel.records.claims import Claims, locked
from windtunnel.recovery import recovery
from windtunnel.spec import digest, plain
from windtunnel.sweep.facts import brought_up, knobs_of, write_study
from windtunnel.sweep.memory import in_parts
from windtunnel.sweep.packs import Program
from windtunnel.sweep.point import Point, title
from windtunnel.sweep.saved import Saved, Training, blank, cut_off, devices, tidy
from windtunnel.sweep.stop import Stop
from windtunnel.trackers import Tracking
from windtunnel.train import CHUNK

CALL_SECONDS = 1.0  # how long one call of `advance` should take: progress and Ctrl-C wait for it
NOTE_SECONDS = 5.0  # how often a pack says how far it is
VERDICT = ("kl_bits", "kl_bits_past", "headroom_bits_past", "critical_length", "extrapolation_ratio")


def finished(root: Path, point: Point) -> bool:
    """Whether the study is trained and was judged in just this way."""
    result = records.read(root / point.id).result
    return result is not None and result["evaluate_id"] == evaluate_id(point.study)


class Driver:
    """Runs packs one after the other.

    Several drivers, in processes of their own, may work in one folder: what one has claimed the others leave alone.
    """

    def __init__(
        self,
        root: Path,
        display: Display,
        checkpoint_seconds: float,
        stop: Stop | None = None,
        fail_fast: bool = False,
        tracker: str | None = None,
        probe_every: int | None = None,
    ):
        self.root, self.display, self.checkpoint_seconds = root, display, checkpoint_seconds
        self.stop, self.fail_fast, self.probe_every = stop or Stop(), fail_fast, probe_every
        self.claims = Claims(root)
        self.judge = Judge()
        self.tracking = Tracking(tracker, root, display.say)

    def run(self, number: int, points: list[Point]) -> list[Point]:
        """Train what is not trained, judge it, write it down. A study that fails does so alone.

        What another process has claimed is left to it, and returned.
        """
        self.stop.check()
        claimed = self.claims.take([point.id for point in points])
        try:
            others = [point for point in points if point.id not in claimed]
            unfinished = [point for point in points if point.id in claimed and not finished(self.root, point)]
            if others:
                self.display.say(f"{title(others)}: left to another process, which is at work on it")
            if unfinished:
                self._run(number, unfinished)
        finally:
            self.claims.drop(claimed)
        return others

    def _run(self, number: int, points: list[Point]) -> None:
        for point in points:
            self._mend(point)
        programs: dict[int, Program] = {}
        by_id = {point.id: point for point in points}
        packs = [[by_id[name] for name in ids] for ids in cut_off(self.root, list(by_id))]
        resumed = {point.id for pack in packs for point in pack}
        fresh = [p for p in points if p.id not in resumed and not checkpoint.exists(self._checkpoint(p))]
        for pack in [*packs, *([fresh] if fresh else [])]:
            self.display.show(number, f"{title(pack)} · compiling", 0)
            saved = Saved(self.root, [point.id for point in pack])
            saved.begin(pack[0].study.train.steps)
            in_parts(pack, "advance", programs, partial(self._train, number, pack), self._fail, self.display.say)
            tidy(self.root, [point.id for point in pack])
        trained = [point for point in points if checkpoint.exists(self._checkpoint(point))]
        if trained:
            in_parts(trained, "predict", programs, partial(self._judge, number), self._fail, self.display.say)
        with locked(self.root):
            records.write_results(self.root)

    def _mend(self, point: Point) -> None:
        """Set aside what is damaged of a study, so that it is made again: the verdict, or everything."""
        folder = self.root / point.id
        found = records.read(folder)
        if found.state != "damaged":
            return
        verdict, checkpoints = folder / "result.json", self._checkpoint(point)
        if brought_up(folder, point.study) is None:
            records.set_aside(folder / "study.json", verdict, checkpoints)
        elif found.older:
            return  # it is judged again, and that is all
        else:
            records.set_aside(verdict)
        self.display.say(f"{point.id}: damaged, {found.why}; made again, and what was there is kept as *{records.AWAY}")

    def _train(self, number: int, whole: list[Point], points: list[Point], program: Program, cut: str | None) -> None:
        """Train a part of a pack and split it into studies; `cut` says why it is not the whole."""
        size, steps = len(points), points[0].study.train.steps
        saved = Saved(self.root, [point.id for point in points])
        saved.begin(steps)
        for point in points:
            write_study(self.root / point.id, point, {"name": saved.folder.name, "studies": size, "cut": cut})
            (self.root / point.id / "error.txt").unlink(missing_ok=True)
            self.tracking.begin(point.id, plain(point.study))
        curves = blank(curve_names(points[0].study.train), size, steps)
        now = Training(program.start(), curves, np.int32(0), np.float32(0))
        saved.adopt([point.id for point in whole], now)
        now = self._resumed(number, points, program, saved, now)
        program.memory("advance")  # compiled before the clock starts
        saved.note_compilations(program.compiled.take())
        state, done, seconds = self._advance(number, points, program, saved, now)
        self.display.show(number, title(points), (steps - done) * size)
        learned_params = program.fetch(state).params
        count = sum(leaf[0].size for leaf in jax.tree.leaves(learned_params))
        params = program.finish(learned_params)
        for index, point in enumerate(points):
            learned = {name: curve[index, :done] for name, curve in now.curves.items()}
            if done == steps or not np.isfinite(learned["kl_bits"]).all():
                own_params = jax.tree.map(lambda leaf, i=index: leaf[i], params)
                self._write_trained(point, own_params, count, learned, program.compile_seconds / size, seconds / size)
        if done < steps and np.isfinite(now.curves["kl_bits"][:, :done]).all(axis=1).any():
            raise StudyFailed  # and the others go on another time
        saved.remove()

    def _resumed(self, number: int, points: list[Point], program: Program, saved: Saved, fresh: Training) -> Training:
        """The training that was saved; a fresh one where none was, or what was is damaged."""
        if not saved.exists:
            return fresh
        try:
            now = saved.load(fresh)
        except records.Damaged as error:
            records.set_aside(saved.folder)
            self.display.say(f"{title(points)}: {error}; starts again, and what was there is kept as *{records.AWAY}")
            return fresh
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
        return now._replace(state=program.resume(now.state), curves=jax.tree.map(np.array, now.curves))

    def _advance(self, number: int, points: list[Point], program: Program, saved: Saved, now: Training) -> Any:
        """(state, steps done, seconds): to the end, until every study is broken, or with `fail_fast` until one is.

        `now.curves` are filled in.
        """
        size, steps, state, kl_bits = len(points), points[0].study.train.steps, now.state, now.curves["kl_bits"]
        done, seconds, count = int(now.done), float(now.seconds), 1
        last_saved, last_noted = time.monotonic(), 0.0
        series = self._series(points)
        if series and not done:
            series.look(0, program.fetch(state).params)
        enough = np.any if self.fail_fast else np.all
        while done < steps and not enough(~np.isfinite(kl_bits[:, :done]).all(axis=1)):
            count = min(count, steps - done, series.room(done) if series else steps)
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
            self._track(points, {name: curve[:, :done] for name, curve in now.curves.items()}, done - count)
            if time.monotonic() - last_noted >= NOTE_SECONDS:
                known = [float(value) if np.isfinite(value) else None for value in latest]
                saved.note(what="training", step=done, steady_seconds=seconds, kl_bits=known)
                last_noted = time.monotonic()
            count = int(np.clip(count * CALL_SECONDS / took, 1, min(CHUNK, 4 * count)))
            late = time.monotonic() - last_saved >= self.checkpoint_seconds
            if late or done == steps or self.stop.asked or (self.fail_fast and not np.isfinite(latest).all()):
                saved.save(Training(program.fetch(state), now.curves, np.int32(done), np.float32(seconds)))
                last_saved = time.monotonic()
            if done < steps:
                self.stop.check()
        saved.note(what="training", step=done, steady_seconds=seconds)
        return state, done, seconds

    def _track(self, points: list[Point], curves: dict[str, np.ndarray], after: int) -> None:
        """Show the tracker the curves after a step."""
        if self.tracking.tracker is None:
            return
        for index, point in enumerate(points):
            learned = {name: curve[index] for name, curve in curves.items()}
            for row in records.learning_curve(learned, point.study.train.steps, after):
                known = {name: mean for name, mean in row.items() if name != "step" and mean is not None}
                self.tracking.log(point.id, row["step"], known)

    def _write_trained(
        self, point: Point, params: Any, count: int, curves: dict[str, np.ndarray], compiling: float, seconds: float
    ) -> None:
        folder, study = self.root / point.id, point.study
        records.write_learning_curve(folder / "train.jsonl", curves)
        broken = np.flatnonzero(~np.isfinite(curves["kl_bits"]))
        if len(broken):
            self._fail(point, f"the loss was not finite at step {broken[0] + 1}")
            return
        tokens = study.train.steps * study.train.batch * study.tunnel.tokens(study.horizon)
        record = records.read_study(folder)
        record["parameters"] = checkpoint.fingerprint(params)
        record["facts"] |= {
            "parameters": count,
            "train_seconds": seconds,
            "compile_seconds": compiling,
            "tokens_per_second": tokens / seconds,
        }
        records.write_sealed(folder / "study.json", record)
        checkpoint.save(folder / "checkpoint", params)

    def _fail(self, point: Point, why: str) -> None:
        knobs = {".".join(str(part.name) for part in path): float(leaf) for path, leaf in knobs_of(point.study)}
        records.write(self.root / point.id / "error.txt", f"{why}\nknobs: {knobs}\n")
        self.display.say(f"{point.id}: failed, {why}")

    def _judge(self, number: int, points: list[Point], program: Program, cut: str | None) -> None:
        """Compare with the exact posterior, in the program that trained them where it is large enough."""
        self.display.show(number, f"{title(points)} · evaluating", 0)
        packs = self._noted(points, what="evaluating")
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), program.params)
        read = [(point, self._parameters(point, like)) for point in points]
        points, params = [point for point, own in read if own is not None], [own for _, own in read if own is not None]
        if not points:
            return
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *params)
        predicted = program.predict(stacked)
        first, farther = predicted.log_predictive, self._farther(points, stacked)
        cases = [
            self.judge.case(point.study.problem, np.asarray(first[index]), farther and farther[index])
            for index, point in enumerate(points)
        ]
        self._decide(number, points, program, stacked, cases)
        for index, point in enumerate(points):
            self.stop.check()
            numbers = self._verdict(point, params[index], predicted, index, cases[index])
            self.tracking.begin(point.id, plain(point.study))
            known = {f"verdict/{key}": numbers[key] for key in VERDICT if numbers.get(key) is not None}
            self.tracking.log(point.id, point.study.train.steps, known)
            self.tracking.end(point.id)
        for compiled in (program.compiled, self.judge.compiled):
            cost = compiled.take()
            if packs:
                packs[0].note_compilations(cost)
        for pack in packs:
            pack.note(what="done")

    def _parameters(self, point: Point, like: Any) -> Any:
        """The parameters of a study, as numpy arrays. Where they are damaged the study has failed, and None."""
        try:
            return read_parameters(self.root / point.id, like)
        except records.Damaged as error:
            records.set_aside(self._checkpoint(point))
            self._fail(
                point, f"{error}; it is kept as {error.path.name}{records.AWAY}, and `windtunnel run` trains again"
            )
            return None

    def _farther(self, points: list[Point], params: Any) -> Any:
        """[S, B, P, V]: the same of questions that ask for more hops, where these are judged (`Problem.farther`)."""
        problems = [point.study.problem.farther for point in points]
        studies = [
            replace(point.study, tunnel=problem.tunnel, evaluate=problem.evaluate)
            for point, problem in zip(points, problems, strict=True)
            if problem is not None
        ]
        return list(map(np.asarray, Program(studies).predict(params).log_predictive)) if studies else None

    def _decide(self, number: int, points: list[Point], program: Program, params: Any, cases: list[Case]) -> None:
        """Add sequences to the cases in which something that decides is open, until none is left or may be added."""
        while wanted := {index: blocks for index, case in enumerate(cases) if (blocks := case.wanted())}:
            blocks = next(iter(wanted.values()))
            sequences = blocks[-1] + points[0].study.evaluate.examples
            self.display.show(number, f"{title(points)} · deciding {len(wanted)} with {sequences} sequences", 0)
            for first in blocks:
                self.stop.check()
                log_q = program.predict(params, first).log_predictive
                for index in wanted:
                    cases[index].add(first, np.asarray(log_q[index]))

    def _verdict(self, point: Point, params: Any, predicted: Predicted, index: int, case: Case) -> records.Json:
        folder, study = self.root / point.id, point.study
        records.write_curves(folder / "example.npz", example(study, params, self.judge.compiled))
        facts = {
            **recovery(study, params),
            "kl_ratio_half": records.ratio_to_half(folder / "train.jsonl"),
            "attention": [attention_facts(reading, index) for reading in predicted.readings],
        }
        if predicted.iterations is not None:
            curves = iteration_curves(predicted.iterations, index)
            records.write_curves(folder / "depth.npz", curves)
            facts["depth"] = iteration_facts(curves)
        return case.close(folder, facts)

    def _noted(self, points: list[Point], what: str) -> list[Saved]:
        """The packs that these studies trained in, told of it; none of those that are judged once more."""
        names = dict.fromkeys(pack_name(self.root / point.id) for point in points)
        notes = [
            note for note in records.notes(self.root) if digest(note["studies"]) in names and note["what"] != "done"
        ]
        packs = [Saved(self.root, note["studies"]) for note in notes]
        for pack in packs:
            pack.note(what=what)
        return packs

    def _series(self, points: list[Point]) -> Any:
        """What looks into the models while they train, where that is asked for."""
        if self.probe_every is None:
            return None
        from windtunnel.instruments.series import Series

        return Series([self.root / point.id for point in points], [point.study for point in points], self.probe_every)

    def _checkpoint(self, point: Point) -> Path:
        return self.root / point.id / "checkpoint"


def pack_name(folder: Path) -> str | None:
    """The pack that a study trained in, where its record says so: records of before there were notes do not."""
    study = records.read(folder).study
    return study.get("pack", {}).get("name") if study else None

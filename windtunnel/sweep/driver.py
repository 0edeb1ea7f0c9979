"""The host's part of a run: it drives packs through training (`trainer.py`), evaluation and comparison."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from windtunnel import checkpoint, records
from windtunnel.compare import finite
from windtunnel.config import Study, evaluate_id
from windtunnel.decide import mean_and_error
from windtunnel.evaluate import Predicted
from windtunnel.example import begin_example, example
from windtunnel.information import kl_bits
from windtunnel.judge import Case, Judge, attention_facts, iteration_curves, iteration_facts
from windtunnel.load import read_parameters
from windtunnel.monitor import closed
from windtunnel.monitor.recoveries import Served, served
from windtunnel.progress import Display
from windtunnel.records.claims import Claims, locked
from windtunnel.recovery import recovery
from windtunnel.spec import arrays, digest, plain
from windtunnel.sweep.facts import brought_up
from windtunnel.sweep.memory import in_parts, program_for
from windtunnel.sweep.packs import Program, group
from windtunnel.sweep.point import Point, title
from windtunnel.sweep.saved import Saved, cut_off, tidy
from windtunnel.sweep.stop import Stop
from windtunnel.sweep.trainer import Trainer
from windtunnel.trackers import Tracking

FELL_BACK = "fell back"
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
        self.root, self.display, self.stop, self.fail_fast = root, display, stop or Stop(), fail_fast
        self.claims = Claims(root)
        self.next: dict[int, Program] = {}  # the program of the pack that comes next, where it compiles already
        self.judge = Judge()
        self.tracking = Tracking(tracker, root, display.say)
        self.trainer = Trainer(root, display, self.tracking, self.stop, checkpoint_seconds, fail_fast, probe_every)

    def run(self, number: int, points: list[Point], following: Sequence[Point] = ()) -> list[Point]:
        """Train what is not trained, judge it, write it down. A study that fails does so alone. Where there is an
        accelerator, the programs of the `following` pack are compiled while this one trains.

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
                self._run(number, unfinished, following)
        finally:
            self.claims.drop(claimed)
        return others

    def _run(self, number: int, points: list[Point], following: Sequence[Point]) -> None:
        for point in points:
            self._mend(point)
        programs, self.next = self.next, {}
        by_id = {point.id: point for point in points}
        packs = [[by_id[name] for name in ids] for ids in cut_off(self.root, list(by_id))]
        resumed = {point.id for pack in packs for point in pack}
        fresh = [p for p in points if p.id not in resumed and not checkpoint.exists(self._checkpoint(p))]
        for pack in [*packs, *([fresh] if fresh else [])]:
            self.display.show(number, f"{title(pack)} · compiling", 0)
            saved = Saved(self.root, [point.id for point in pack])
            saved.begin(pack[0].study.train.steps)
            self._ahead(pack, programs)
            if following and jax.default_backend() != "cpu":  # whose compilers would take the cores that train
                self._ahead(following, self.next)
                following = ()
            in_parts(
                pack,
                "advance",
                programs,
                partial(self.trainer.train, number, pack),
                self.trainer.fail,
                self.display.say,
            )
            tidy(self.root, [point.id for point in pack])
        trained = [point for point in points if checkpoint.exists(self._checkpoint(point))]
        if trained:
            in_parts(trained, "predict", programs, partial(self._judge, number), self.trainer.fail, self.display.say)
        with locked(self.root):
            records.write_results(self.root)

    def _ahead(self, points: Sequence[Point], programs: dict[int, Program]) -> None:
        """Begin to compile all that a pack will need, in the order in which it is waited for."""
        study, program = points[0].study, program_for(list(points), len(points), programs)
        program.ahead("start", "advance", "predict")
        if jax.process_count() == 1:
            self.judge.ahead(study.problem)
            begin_example(study, program.like, self.judge.compiled)

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

    def _judge(self, number: int, points: list[Point], program: Program, cut: str | None) -> None:
        """Compare with the exact posterior, in the program that trained them where it is large enough. A study that was
        recovered answers as its record says, which may take another program.
        """
        of = [self._served(point) for point in points]
        for alike in group(of):
            part = [points[index] for index in alike]
            studies = [of[index] for index in alike]
            if [point.study for point in part] == studies:
                own = program if len(part) == len(points) else program.filled(studies)
            else:
                same = jax.tree.structure(studies[0]) == jax.tree.structure(points[0].study)
                own = program.filled(studies) if same else Program(studies)
            self._judge_alike(number, part, own)

    def _served(self, point: Point) -> Study:
        """The study as it answers, after what was done about it while it trained."""
        known = records.read_study(self.root / point.id)["facts"].get("served")
        return served(point.study, Served(**known)) if known else served(point.study)

    def _judge_alike(self, number: int, points: list[Point], program: Program) -> None:
        self.display.show(number, f"{title(points)} · evaluating", 0)
        packs = self._noted(points, what="evaluating")
        read = [(point, self._parameters(point, program.like)) for point in points]
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
            self.trainer.fail(
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
            **self._fallen(point, params),
            "kl_ratio_half": records.ratio_to_half(folder / "train.jsonl"),
            "attention": [attention_facts(reading, index) for reading in predicted.readings],
        }
        if predicted.iterations is not None:
            curves = iteration_curves(predicted.iterations, index)
            records.write_curves(folder / "depth.npz", curves)
            facts["depth"] = iteration_facts(curves)
        return case.close(folder, facts)

    def _fallen(self, point: Point, params: Any) -> records.Json:
        """Of a study whose attention was given up for the closed form: that it fell back, and how it answers with it.
        All else in the verdict is of its own attention, so that nothing of the oracle counts for it.
        """
        known = records.read_study(self.root / point.id)["facts"].get("served")
        if known is None or known["fell"] is None:
            return {}
        slopes = np.asarray([np.nan if c is None else c for c in known["slopes"]], np.float32)
        exact, problem = self.judge.exact(point.study.problem), point.study.problem
        numbers = np.arange(problem.evaluate.examples)
        shape = -1, point.study.model.heads
        log_q_BPV = np.asarray(closed.answers(arrays(point.study), params, slopes.reshape(shape), numbers))
        gap_BP = kl_bits(exact.log_predictive, log_q_BPV)
        weights = {"kl_bits": problem.bins.inside_P, "kl_bits_past": problem.bins.past_P}
        gaps = {name: finite(mean_and_error(gap_BP, exact.weight * of_P)[0]) for name, of_P in weights.items()}
        return {"verdict": FELL_BACK, "fell_back": {"to": "closed form", "step": known["fell"], **gaps}}

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

    def _checkpoint(self, point: Point) -> Path:
        return self.root / point.id / "checkpoint"


def pack_name(folder: Path) -> str | None:
    """The pack that a study trained in, where its record says so: records of before there were notes do not."""
    study = records.read(folder).study
    return study.get("pack", {}).get("name") if study else None

"""The host's part of a run: it drives packs through training, evaluation and comparison, and writes the records."""

import math
import platform
import subprocess
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from windtunnel import __version__, checkpoint, records
from windtunnel.compare import Binned, compare
from windtunnel.config import Study, digest, evaluate_id, plain, study_id
from windtunnel.evaluate import exact, scored_bins
from windtunnel.progress import Display
from windtunnel.recovery import recovery
from windtunnel.spec import arrays
from windtunnel.sweep.packs import Program
from windtunnel.train import CHUNK

CALL_SECONDS = 1.0  # how long one call of `advance` should take: progress and Ctrl-C wait for it


@dataclass(frozen=True)
class Point:
    """A study of a sweep, and the overrides that made it."""

    study: Study
    overrides: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return study_id(self.study)


def finished(root: Path, point: Point) -> bool:
    """Whether the study is trained and was judged in just this way."""
    folder = root / point.id
    return records.status(folder) == "done" and (
        records.read_json(folder / "result.json")["evaluate_id"] == evaluate_id(point.study)
    )


class Driver:
    """Runs packs one after the other. What exact reasoners say is worked out once for each tunnel."""

    def __init__(self, root: Path, display: Display, checkpoint_seconds: float, probe_every: int | None = None):
        self.root, self.display, self.checkpoint_seconds = root, display, checkpoint_seconds
        self.probe_every = probe_every
        self.exact: dict[str, Any] = {}

    def run(self, number: int, points: list[Point]) -> None:
        """Train what is not trained, judge it, write it down. A study that fails does so alone."""
        program = Program([point.study for point in points])
        fresh = [point for point in points if not checkpoint.exists(self._checkpoint(point))]
        if checkpoint.exists(self._saved(points)):  # cut off while it trained, or while it was split into studies
            fresh = points
        if fresh:
            training = program if fresh == points else Program([point.study for point in fresh])
            self._train(number, fresh, training)
        trained = [point for point in points if checkpoint.exists(self._checkpoint(point))]
        if trained:
            self._judge(number, points, trained, program)
        records.write_results(self.root)

    def _train(self, number: int, points: list[Point], program: Program) -> None:
        for point in points:
            write_study(self.root / point.id, point)
        size, steps = len(points), points[0].study.train.steps
        what, saved = title(points), self._saved(points)
        self.display.show(number, f"{what} · compiling", 0)
        state, kl_bits, done, seconds = program.start(), np.full((size, steps), np.nan, np.float32), 0, 0.0
        if checkpoint.exists(saved):
            like = {"state": state, "kl_bits": kl_bits, "done": np.int32(0), "seconds": np.float32(0)}
            tree = checkpoint.load(saved, like)
            state, kl_bits = program.place(tree["state"]), np.array(tree["kl_bits"])
            done, seconds = int(tree["done"]), float(tree["seconds"])
            self.display.say(f"{what}: goes on from step {done}")
            self.display.show(number, what, done * size)
        program.advance  # noqa: B018 (compile before the clock starts)
        series = self._series(points)
        if series and not done:
            series.look(0, state.params)
        count, last_saved = 1, time.monotonic()
        while done < steps and np.isfinite(kl_bits[:, :done]).all(axis=1).any():
            count = min(count, steps - done, series.room(done) if series else steps)
            began = time.perf_counter()
            state, kl = program.advance(state, count)
            kl_bits[:, done : done + count] = np.asarray(kl)[:size, :count]
            took = time.perf_counter() - began
            done, seconds = done + count, seconds + took
            if series:
                series.look(done, state.params)
            self.display.show(number, what, count * size, float(np.median(kl_bits[:, max(0, done - 20) : done])))
            count = int(np.clip(count * CALL_SECONDS / took, 1, min(CHUNK, 4 * count)))
            if time.monotonic() - last_saved >= self.checkpoint_seconds or done == steps:
                tree = {"state": state, "kl_bits": kl_bits, "done": np.int32(done), "seconds": np.float32(seconds)}
                checkpoint.save(saved, tree)
                last_saved = time.monotonic()
        self.display.show(number, what, (steps - done) * size)
        params = jax.tree.map(np.asarray, state.params)
        for index, point in enumerate(points):
            mine = jax.tree.map(lambda leaf, i=index: leaf[i], params)
            self._write_trained(point, mine, kl_bits[index, :done], program.compile_seconds / size, seconds / size)
        checkpoint.remove(saved)

    def _write_trained(self, point: Point, params: Any, kl_bits: np.ndarray, compiling: float, seconds: float) -> None:
        folder, study = self.root / point.id, point.study
        records.write_learning_curve(folder / "train.jsonl", kl_bits)
        broken = np.flatnonzero(~np.isfinite(kl_bits))
        if len(broken):
            knobs = {".".join(str(part.name) for part in path): float(leaf) for path, leaf in knobs_of(study)}
            records.write(folder / "error.txt", f"the loss was not finite at step {broken[0] + 1}\nknobs: {knobs}\n")
            self.display.say(f"{point.id}: failed, the loss was not finite at step {broken[0] + 1}")
            return
        tokens = study.train.steps * study.train.batch * study.tunnel.tokens(study.horizon)
        record = records.read_json(folder / "study.json")
        record["facts"] |= {
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
            "train_seconds": seconds,
            "compile_seconds": compiling,
            "tokens_per_second": tokens / seconds,
        }
        records.write_json(folder / "study.json", record)
        checkpoint.save(folder / "checkpoint", params)

    def _judge(self, number: int, points: list[Point], trained: list[Point], program: Program) -> None:
        """Compare the trained ones with the exact posterior; the pack keeps its size, so that it keeps its program."""
        self.display.show(number, f"{title(points)} · evaluating", 0)
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), program.state.params)
        params = {point.id: checkpoint.load(self._checkpoint(point), like) for point in trained}
        filled = [params.get(point.id, params[trained[0].id]) for point in points]
        filled += filled[-1:] * (jax.tree.leaves(program.pack)[0].shape[0] - len(points))
        predicted = program.predict(program.place(jax.tree.map(lambda *leaves: np.stack(leaves), *filled)))
        for index, point in enumerate(points):
            if point not in trained:
                continue
            study, answers = point.study, self._exact(point.study)
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
            folder = self.root / point.id
            (folder / "error.txt").unlink(missing_ok=True)
            records.write_curves(folder / "curves.npz", curves)
            settings = {"evaluate": plain(study.evaluate), "evaluate_id": evaluate_id(study)}
            numbers |= recovery(study, params[point.id])
            numbers["attention"] = [attention_facts(reading, index) for reading in predicted.readings]
            records.write_json(folder / "result.json", {**settings, "reach": study.evaluate.reach, **numbers})

    def _exact(self, study: Study) -> Any:  # an `Exact` of numpy arrays
        key = digest([plain(study.tunnel), plain(study.evaluate), study.horizon])
        if key not in self.exact:
            self.exact[key] = jax.tree.map(np.asarray, exact_program(arrays(study)))
        return self.exact[key]

    def _series(self, points: list[Point]) -> Any:
        """What looks into the models while they train, where that is asked for."""
        if self.probe_every is None:
            return None
        from windtunnel.instruments.series import Series

        return Series([self.root / point.id for point in points], [point.study for point in points], self.probe_every)

    def _checkpoint(self, point: Point) -> Path:
        return self.root / point.id / "checkpoint"

    def _saved(self, points: list[Point]) -> Path:
        """Where a pack is checkpointed while it trains."""
        return self.root / "packs" / digest([point.id for point in points])


exact_program = jax.jit(exact)


def attention_facts(reading: Any, index: int) -> dict[str, Any]:
    """How a layer's attention was computed for a study of a pack, over its examples."""
    return {
        "kernel": reading.kernel,
        "skipped_blocks": float(reading.skipped_B[index].mean()),
        "skipped_mass_bound": float(reading.mass_B[index].max()),
    }


def knobs_of(study: Study) -> list[Any]:
    return jax.tree_util.tree_flatten_with_path(study)[0]


def title(points: list[Point]) -> str:
    """What the studies of a pack have in common, in a few words."""
    shared = [f"{k}={v}" for k, v in points[0].overrides.items() if all(p.overrides.get(k) == v for p in points)]
    count = "1 study" if len(points) == 1 else f"{len(points)} studies"
    return f"{', '.join(shared) or points[0].study.tunnel.name} ({count})"


def write_study(folder: Path, point: Point) -> None:
    """`study.json`: the resolved study, the facts that tables show, and what it ran on."""
    study = point.study
    device = jax.devices()[0]
    records.write_json(
        folder / "study.json",
        {
            "study": plain(study),
            "overrides": point.overrides,
            "facts": {
                "tunnel": study.tunnel.name,
                "hypotheses": study.tunnel.hypotheses if study.tunnel.hypotheses < math.inf else "inf",
                "noise": getattr(study.tunnel, "noise", None),
                "prior": getattr(getattr(study.tunnel, "prior", None), "name", None),
                "position": study.position.name if study.position else None,
                "model": study.model.name,
                "softmax": getattr(study.model, "softmax", None),
                "supervision": study.train.supervision,
                "seed": study.seed,
                "horizon": study.horizon,
                "steps": study.train.steps,
            },
            "versions": {name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
            | {"windtunnel": __version__, "python": platform.python_version()},
            "device": {"kind": device.device_kind, "platform": device.platform, "count": jax.device_count()},
            "git": git_revision(),
        },
    )


def git_revision() -> str | None:
    """The revision of the code, where it runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None

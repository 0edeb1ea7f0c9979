"""Packs: studies of one structure, stacked into one tree, compiled once, spread over the devices."""

import copy
import itertools
import os
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Self

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from windtunnel import evaluate, train
from windtunnel.canary import check_compiler
from windtunnel.compiled import Compiled
from windtunnel.config import Study
from windtunnel.spec import stack
from windtunnel.tunnels import Tables

STUDY, BATCH = "study", "batch"
ROUND = 2**15  # tokens that a device judges in one call: XLA on a CPU gives the memory of long loops back only after it
SPLITTING = 0.77  # r devices on one study's batch do r^0.77 times the work of one (measured for r = 2, CPU)


def use_all_cores() -> None:
    """Make every CPU core that is ours a device, and see that the compiler computes right. Must come before JAX's first
    computation, and after `jax.distributed.initialize` where there are several processes.
    """
    cores = len(os.sched_getaffinity(0))
    jax.config.update("jax_num_cpu_devices", min(cores, int(os.environ.get("SLURM_CPUS_PER_TASK", cores))))
    check_compiler()


def group(studies: list[Study]) -> list[list[int]]:
    """The packs of a sweep: indices of studies that share one compiled program, in order of first appearance."""
    packs: dict[Any, list[int]] = {}
    for index, study in enumerate(studies):
        packs.setdefault(jax.tree.structure(study), []).append(index)
    return list(packs.values())


def layout(studies: int, devices: int, divides: Callable[[int], bool]) -> tuple[int, int]:
    """(g, r): g groups of devices take studies in turn, the r devices of a group share a study's batch.

    The fastest of all g × r ≤ devices: ⌈studies/g⌉ rounds, each r^0.77 times as fast. An r must divide the batch.
    """
    shapes = [(g, r) for g, r in itertools.product(range(1, devices + 1), repeat=2) if g * r <= devices and divides(r)]
    if jax.process_count() > 1:  # every process must have its part
        shapes = [(g, r) for g, r in shapes if g * r == devices]
    return min(shapes, key=lambda shape: (-(-studies // shape[0]) / shape[1] ** SPLITTING, shape[0] * shape[1]))


def split(points: list[Any], most: int) -> list[list[Any]]:
    """A pack in as few parts of at most so many as there can be, and these as equal as can be."""
    parts = -(-len(points) // most)
    cuts = [-(-len(points) * part // parts) for part in range(parts + 1)]
    return [points[first:last] for first, last in itertools.pairwise(cuts)]


class Program:
    """`start`, `advance` and `predict` of one structure, compiled for a pack of S studies on this machine's devices.

    A pack may be padded with copies of its last study, so that it fills the devices. What is only to be looked at is
    compiled in `haste`.
    """

    def __init__(self, studies: list[Study], haste: bool = False):
        examples, batch = studies[0].evaluate.examples, studies[0].train.batch
        groups, shards = layout(len(studies), jax.device_count(), lambda r: batch % r == 0 and examples % r == 0)
        devices = np.asarray(jax.devices()[: groups * shards]).reshape(groups, shards)
        self.mesh = Mesh(devices, (STUDY, BATCH), axis_types=(AxisType.Auto, AxisType.Auto))
        self.axis = BATCH if shards > 1 else None
        self.spans = jax.process_count() > 1  # no process holds all parts of an array
        self.size = len(studies) + -len(studies) % groups
        self.pack = self.on_devices(stack(studies))
        self.compiled = Compiled(haste)
        self.begin = self.jitted(lambda pack: each(train.start, pack), (P(STUDY),), P(STUDY))
        self.state = self.compiled.shape("start", self.begin, self.pack)
        self.params = jax.eval_shape(jax.vmap(train.finished), self.pack, self.state.params)
        self.examples, share = examples, examples // shards
        tokens = studies[0].tunnel.tokens(studies[0].problem.length)
        self.round = shards * max(n for n in range(1, share + 1) if share % n == 0 and (n == 1 or n * tokens <= ROUND))

    def filled(self, studies: list[Study]) -> Self:
        """The same program, with other studies of the same structure: no more than it was compiled for."""
        other = copy.copy(self)
        other.__dict__.pop("tables", None)
        other.pack = self.on_devices(stack(studies))
        return other

    def tuned(self, studies: list[Study]) -> Self:
        """The same program, with the same studies at other rates, or after their faults."""
        other = copy.copy(self)
        other.pack = self.on_devices(stack(studies))
        return other

    @property
    def like(self) -> Any:
        """The shapes of the parameters of one study."""
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), self.params)

    @property
    def compile_seconds(self) -> float:
        return self.compiled.cost.seconds

    def memory(self, stage: str) -> int:
        """Bytes that a device needs for `advance` or `predict`, its arguments included, as XLA laid them out."""
        stats = self._program(stage).memory_analysis()
        kept = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
        return kept + stats.temp_size_in_bytes + stats.generated_code_size_in_bytes

    def start(self) -> train.State:
        return self._program("start")(self.pack)

    def resume(self, state: train.State) -> train.State:
        """A state that was fetched, on the devices again."""
        return self.on_devices(state)

    def advance(self, state: train.State, steps: int) -> tuple[train.State, dict[str, np.ndarray]]:
        """Every study `steps` steps on; also the learning curves, {name: [S, CHUNK]}, on the host."""
        state, curves = self._program("advance")(self.pack, self.tables, state, np.int32(steps))
        return state, self._whole(curves)

    def fetch(self, state: train.State) -> train.State:
        """A state on the host, padding included, whichever process holds its parts."""
        return self._whole(state)

    def finish(self, params: Any) -> Any:
        """Trained parameters on the host as they are judged: with what is fitted after training, if anything is."""
        if jax.tree.structure(self.params) == jax.tree.structure(self.state.params):
            return params
        return self._whole(self._program("finish")(self.pack, self.on_devices(params)))

    @cached_property
    def tables(self) -> Any:
        """What the tunnels compute once per study."""
        return self._program("prepare")(self.pack)

    def predict(self, params: Any, first: int = 0) -> evaluate.Predicted:
        """Of the `examples` evaluation sequences from number `first` on, a few a call; every array is [S, B, …], on the
        host.
        """
        rounds = np.arange(first, first + self.examples, dtype=np.int32).reshape(-1, self.round)
        params = self.on_devices(params)
        program = self._program("predict")
        parts = [self._whole(program(self.pack, params, self._spread(numbers, P(BATCH)))) for numbers in rounds]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *parts)

    def on_devices(self, tree: Any) -> Any:
        """A stacked tree of host arrays, padded, on the devices."""

        def padded(leaf: Any) -> np.ndarray:
            leaf = np.asarray(leaf)
            return np.concatenate([leaf, np.repeat(leaf[-1:], self.size - len(leaf), axis=0)])

        return self._spread(jax.tree.map(padded, tree), P(STUDY))

    def _spread(self, tree: Any, spec: P) -> Any:
        """Host arrays on the devices; where there are several processes, each has them whole and places its parts."""
        sharding = NamedSharding(self.mesh, spec)
        if not self.spans:
            return jax.device_put(tree, sharding)
        return jax.tree.map(lambda leaf: jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__), tree)

    def _whole(self, tree: Any) -> Any:
        """Arrays on the host: the inverse. One at a time, since each device holds all of it for a moment."""
        return jax.tree.map(lambda leaf: np.asarray(self._gather(leaf) if self.spans else leaf), tree)

    @cached_property
    def _gather(self) -> Any:
        return jax.jit(lambda leaf: leaf, out_shardings=NamedSharding(self.mesh, P()))

    def ahead(self, *names: str) -> None:
        """Begin to compile what will be used, where this process is alone: several compile at the same time."""
        if not self.spans:
            for name in names:
                self.compiled.ahead(name, *self._asked(name))

    def _program(self, name: str) -> Any:
        """Compiled when first called, and only then: a study that is merely judged compiles no training step."""
        return self.compiled.functions.get(name) or self.compiled.get(name, *self._asked(name))

    def _asked(self, name: str) -> tuple[Any, ...]:
        """The jitted function of this name, and arguments of the shapes that it is called with."""
        if name == "prepare":
            return self.jitted(lambda pack: each(train.prepare, pack), (P(STUDY),), P(STUDY)), self.pack
        if name == "start":
            return self.begin, self.pack
        if name == "advance":

            def advance(pack: Study, tables: Tables, state: train.State, steps: Array) -> Any:
                return each(partial(train.advance, steps=steps, axis=self.axis), pack, tables, state)

            function = self.jitted(advance, (P(STUDY), P(STUDY), P(STUDY), P()), P(STUDY), donate_argnums=2)
            return function, self.pack, self.tables, self.state, np.int32(1)
        if name == "finish":
            function = self.jitted(
                lambda pack, params: each(train.finished, pack, params), (P(STUDY), P(STUDY)), P(STUDY)
            )
            return function, self.pack, self.state.params
        assert name == "predict", name

        def predict(pack: Study, params: Any, numbers: Array) -> evaluate.Predicted:
            return each(lambda study, params: evaluate.predict(study, params, numbers), pack, params)

        numbers = self._spread(np.zeros(self.round, np.int32), P(BATCH))
        function = self.jitted(predict, (P(STUDY), P(STUDY), P(BATCH)), P(STUDY, BATCH))
        return function, self.pack, self.params, numbers

    def jitted(self, function: Any, in_specs: Any, out_specs: Any, **options: Any) -> Any:
        spread = jax.shard_map(function, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
        shardings = tuple(NamedSharding(self.mesh, spec) for spec in in_specs)  # else XLA replicates what is not used
        return jax.jit(spread, in_shardings=shardings, **options)


def each(function: Callable[..., Any], *stacked: Any) -> Any:
    """Apply `function` to every study of a pack: in turn on a CPU, all at once elsewhere."""
    if jax.default_backend() == "cpu":
        return lax.map(lambda one: function(*one), stacked)
    return jax.vmap(function)(*stacked)

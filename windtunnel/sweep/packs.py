"""Packs: studies of one structure, stacked into one tree, compiled once, spread over the devices."""

import itertools
import os
import time
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from windtunnel import evaluate, train
from windtunnel.config import Study
from windtunnel.spec import stack

STUDY, BATCH = "study", "batch"
ROUND = 2**15  # tokens that a device judges in one call: XLA on a CPU gives the memory of long loops back only after it
SPLITTING = 0.77  # r devices on one study's batch do r^0.77 times the work of one (measured for r = 2, CPU)


def use_all_cores() -> None:
    """Make every CPU core that is ours a device. Must come before JAX's first computation."""
    cores = len(os.sched_getaffinity(0))
    jax.config.update("jax_num_cpu_devices", min(cores, int(os.environ.get("SLURM_CPUS_PER_TASK", cores))))


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
    if jax.process_count() > 1:  # each must have its part
        shapes = [(g, r) for g, r in shapes if g * r == devices]
    return min(shapes, key=lambda shape: (-(-studies // shape[0]) / shape[1] ** SPLITTING, shape[0] * shape[1]))


class Program:
    """`start`, `advance` and `predict` of one structure, compiled for a pack of S studies on this machine's devices.

    A pack may be padded with copies of its last study, so that it fills the devices.
    """

    def __init__(self, studies: list[Study]):
        examples, batch = studies[0].evaluate.examples, studies[0].train.batch
        groups, shards = layout(len(studies), jax.device_count(), lambda r: batch % r == 0 and examples % r == 0)
        devices = np.asarray(jax.devices()[: groups * shards]).reshape(groups, shards)
        self.mesh = Mesh(devices, (STUDY, BATCH), axis_types=(AxisType.Auto, AxisType.Auto))
        self.axis = BATCH if shards > 1 else None
        self.spans = jax.process_count() > 1  # no process holds all parts of an array
        self.pack = self.place(stack(studies + studies[-1:] * (-len(studies) % groups)))
        self.state = jax.eval_shape(jax.vmap(train.start), self.pack)
        self.compile_seconds = 0.0
        self.examples, share = examples, examples // shards
        tokens = studies[0].tunnel.tokens(studies[0].length)
        self.round = shards * max(n for n in range(1, share + 1) if share % n == 0 and (n == 1 or n * tokens <= ROUND))

    def start(self) -> train.State:
        return self._start(self.pack)

    def resume(self, state: train.State) -> train.State:
        """A state that was fetched, on the devices again."""
        return self.place(state)

    def advance(self, state: train.State, steps: int) -> tuple[train.State, np.ndarray]:
        """Every study `steps` steps on; also [S, CHUNK], the KL (bits) at each, on the host."""
        state, kl_bits = self._advance(self.pack, self.tables, state, np.int32(steps))
        return state, self.fetch(kl_bits)

    def fetch(self, tree: Any) -> Any:
        """A tree of arrays, whole and on the host, whichever process holds its parts."""
        return jax.tree.map(lambda leaf: np.asarray(self._whole(leaf) if self.spans else leaf), tree)

    @cached_property
    def tables(self) -> Any:
        """What the tunnels compute once per study."""
        return self._compile(lambda pack: each(train.prepare, pack), (self.pack,), (P(STUDY),), P(STUDY))(self.pack)

    def predict(self, params: Any) -> evaluate.Predicted:
        """Of all evaluation sequences, a few a call; every array is [S, B, …], on the host."""
        rounds = np.arange(self.examples, dtype=np.int32).reshape(-1, self.round)
        params = self.place(params)
        made = [self.fetch(self._predict(self.pack, params, self.place(numbers, P(BATCH)))) for numbers in rounds]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *made)

    def place(self, tree: Any, spec: P = P(STUDY)) -> Any:
        """A stacked tree, on the devices; every process gives all of it."""
        sharding = NamedSharding(self.mesh, spec)
        if not self.spans:
            return jax.device_put(tree, sharding)
        whole = jax.tree.map(np.asarray, tree)
        return jax.tree.map(lambda leaf: jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__), whole)

    @cached_property
    def _start(self) -> Any:
        return self._compile(lambda pack: each(train.start, pack), (self.pack,), (P(STUDY),), P(STUDY))

    @cached_property
    def _advance(self) -> Any:
        def advance(pack: Study, tables: Any, state: train.State, steps: Array) -> Any:
            return each(partial(train.advance, steps=steps, axis=self.axis), pack, tables, state)

        specs, shapes = (P(STUDY), P(STUDY), P(STUDY), P()), (self.pack, self.tables, self.state, np.int32(1))
        return self._compile(advance, shapes, specs, P(STUDY), donate_argnums=2)

    @cached_property
    def _predict(self) -> Any:
        def predict(pack: Study, params: Any, numbers: Array) -> evaluate.Predicted:
            return each(lambda study, params: evaluate.predict(study, params, numbers), pack, params)

        shapes = self.pack, self.state.params, self.place(np.zeros(self.round, np.int32), P(BATCH))
        return self._compile(predict, shapes, (P(STUDY), P(STUDY), P(BATCH)), P(STUDY, BATCH))

    @cached_property
    def _whole(self) -> Any:
        return jax.jit(lambda leaf: leaf, out_shardings=NamedSharding(self.mesh, P()))

    def _compile(self, function: Any, arguments: Any, in_specs: Any, out_specs: Any, **options: Any) -> Any:
        """Compiled when first called, and only then: a study that is merely judged compiles no training step."""
        began = time.perf_counter()
        spread = jax.shard_map(function, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
        compiled = jax.jit(spread, **options).lower(*arguments).compile()
        self.compile_seconds += time.perf_counter() - began
        return compiled


def each(function: Callable[..., Any], *stacked: Any) -> Any:
    """Apply `function` to every study of a pack: in turn on a CPU, all at once elsewhere."""
    if jax.default_backend() == "cpu":
        return lax.map(lambda one: function(*one), stacked)
    return jax.vmap(function)(*stacked)

"""`make bench`: the cost of exact posteriors, beside that of the training steps that use them, on this machine.

For every preset at its training shape: milliseconds to draw a batch, to compute the exact predictive at all its
positions, and to take a whole step (which includes both); and exact posteriors per second.
"""

import time
from functools import partial
from statistics import median

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from rich.table import Table

from windtunnel import train
from windtunnel.compose import compose
from windtunnel.config import Study
from windtunnel.presets import folder
from windtunnel.progress import console
from windtunnel.spec import arrays
from windtunnel.sweep.packs import BATCH, Program, use_all_cores

REPEATS, STEPS = 9, 20
PRESETS = sorted(path.stem for path in (folder() / "tunnel").glob("*.yaml"))
CASES = {name: [f"tunnel={name}"] for name in PRESETS}

CASES["permutation, V=8"] = ["tunnel=permutation", "tunnel.symbols=8"]
CASES["permutation, V=10"] = ["tunnel=permutation", "tunnel.symbols=10"]


def milliseconds(function) -> float:
    """The median over repeats, after a first call that compiles."""
    jax.block_until_ready(function())
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(function())
        times.append(1000 * (time.perf_counter() - began))
    return median(times)


def measure(study: Study) -> tuple[float, float, float]:
    program = Program([study])
    on_devices = partial(jax.shard_map, mesh=program.mesh, check_vma=False)
    tables, study_arrays = jax.jit(train.prepare)(arrays(study)), arrays(study)
    share = study.train.batch // program.mesh.shape[BATCH]

    def draw(key):
        numbers = jax.lax.axis_index(BATCH) * share + jnp.arange(share)
        return train.examples(study_arrays, tables, key, numbers)

    def judge(batch):
        return study_arrays.tunnel.log_predictive(tables, batch, jnp.arange(study.horizon))

    sample = jax.jit(on_devices(draw, in_specs=(P(),), out_specs=P(BATCH)))
    exact = jax.jit(on_devices(judge, in_specs=(P(BATCH),), out_specs=P(BATCH)))
    batch = sample(jax.random.key(0))
    state = program.start()

    def steps():
        nonlocal state
        state, kl_bits = program.advance(state, STEPS)
        return kl_bits

    drawing, judging = milliseconds(lambda: sample(jax.random.key(0))), milliseconds(lambda: exact(batch))
    return drawing, judging, milliseconds(steps) / STEPS


def main() -> None:
    use_all_cores()
    table = Table(title=f"{jax.device_count()} × {jax.devices()[0].device_kind}, jax {jax.__version__}")
    for header in ("preset", "batch", "observations", "draw ms", "exact ms", "step ms", "posteriors/s"):
        table.add_column(header, justify="left" if header == "preset" else "right")
    for name, overrides in CASES.items():
        study = compose(overrides)[0]
        drawing, judging, step = measure(study)
        rate = 1000 * study.train.batch * study.horizon / judging
        shape = str(study.train.batch), str(study.horizon)
        table.add_row(name, *shape, f"{drawing:.2f}", f"{judging:.2f}", f"{step:.1f}", f"{rate:,.0f}")
    console().print(table)


if __name__ == "__main__":
    main()

"""The row of exact posteriors: the subset recursion of `permutation` against enumeration with BLAS."""

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from baseline.enumeration import Enumeration
from bench.table import Line
from bench.workers import ROUNDS
from windtunnel import train
from windtunnel.compose import compose
from windtunnel.spec import arrays
from windtunnel.sweep.packs import use_all_cores
from windtunnel.tunnels import Batch

BATCH = 512  # sequences in a call


def posteriors() -> list[Line]:
    """Both methods compute the predictive at every position of training sequences of `permutation`, V = 8."""
    use_all_cores()
    study = arrays(compose(["tunnel=permutation", "tunnel.symbols=8"])[0])
    tunnel, tables, at = study.tunnel, train.prepare(study), jnp.arange(study.horizon)
    batch = jax.jit(train.examples)(study, tables, jax.random.key(0), jnp.arange(BATCH))
    mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    exact = jax.jit(
        jax.shard_map(
            lambda batch: tunnel.log_predictive(tables, batch, at),
            mesh=mesh, in_specs=P("batch"), out_specs=P("batch"), check_vma=False,
        )
    )  # fmt: skip
    brute = Enumeration(tunnel.symbols, float(tunnel.noise), np.asarray(tunnel.prior.log_density(jnp.arange(8.0))))
    counts_NVV, asked_N = queries(batch, tunnel.symbols)

    some = slice(0, 2048)

    def ours() -> jax.Array:
        return jax.block_until_ready(exact(batch))

    by_recursion = np.exp(np.asarray(ours())).reshape(-1, tunnel.symbols)
    difference = np.abs(by_recursion[some] - brute.predictive(counts_NVV[some], asked_N[some])).max()
    assert difference < 1e-4, f"the two differ by {difference}"
    rates = []
    for _ in range(ROUNDS):
        rates.append((rate(ours, len(asked_N)), rate(partial(brute.predictive, counts_NVV[some], asked_N[some]), 2048)))
        print("  recursion {:,.0f}, enumeration {:,.0f}".format(*rates[-1]), flush=True)
    detail = f"they differ by {difference:.0e} at most"
    what = "exact posteriors, permutation V = 8: per second"
    left, right = (list(side) for side in zip(*rates, strict=True))
    return [Line(what, "40,320 permutations, BLAS, numpy", left, right, 20, detail)]


def queries(batch: Batch, symbols: int) -> tuple[np.ndarray, np.ndarray]:
    """At every position, the counts of the pairs seen before [N, V, V], and the current key [N]."""
    key_BT, value_BT = np.asarray(batch.inputs[:, 0::2]), np.asarray(batch.outcome_BP)
    pair_BTVV = np.eye(symbols**2, dtype=np.float32)[key_BT * symbols + value_BT].reshape(
        *key_BT.shape, symbols, symbols
    )
    before_BTVV = np.cumsum(pair_BTVV, axis=1) - pair_BTVV
    return before_BTVV.reshape(-1, symbols, symbols), key_BT.reshape(-1)


def rate(call, count: int) -> float:
    """Posteriors per second, over at least half a second."""
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < 0.5:
        call()
        calls += 1
    return calls * count / (time.perf_counter() - began)

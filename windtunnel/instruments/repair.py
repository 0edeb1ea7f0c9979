"""The measurements of `stability`: attention at any length, and predictions with repaired scores."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from windtunnel.config import Study
from windtunnel.information import kl
from windtunnel.instruments.base import Build
from windtunnel.models.tap import Tap
from windtunnel.tunnels import Batch

EXAMPLES = 16
RIGHT = 0.9  # the share of the exact posterior that the right hypotheses hold
REPAIRS = ("none", "position", "dilution", "both")


@partial(jax.jit, static_argnames=("at", "model"))
def far(study: Study, params: Any, at: tuple[int, ...], slopes: Array | None, model: Build) -> dict[str, Array]:
    """[B, P, …] at the observations `at` of sequences of the full evaluated length, computed one sequence at a time."""
    problem, tunnel, module, where = study.problem, study.tunnel, model(study, params), jnp.asarray(at)
    tokens = tunnel.scored(problem.length)[np.asarray(at)]

    def judge(batch: Batch) -> dict[str, Array]:
        tables = tunnel.prepare(problem.length)
        log_p_BPV = tunnel.log_predictive(tables, batch, where)
        right = tunnel.token_weights(tables, batch, where) if tunnel.weighs_far else None
        results = attention_of(module, batch, tokens, right)
        if slopes is not None:
            assert right is not None  # a tunnel with a prior over lags has weights over tokens
            prior_PT = prior_at(study, where)
            kl_bits = [repaired(module, batch, tokens, log_p_BPV, right, prior_PT, slopes, of) for of in REPAIRS]
            results["kl_bits"] = jnp.stack(kl_bits, axis=-1)
        return results

    return problem.each(judge, jnp.arange(EXAMPLES))


def prior_at(study: Study, at: Array) -> Array:
    """[P, T]: the log-prior of every token as the source of the observations `at`."""
    lag_PT = at[:, None] - jnp.arange(study.tunnel.tokens(study.problem.length))[None]
    prior = study.tunnel.lag_prior
    assert prior is not None
    return prior.log_density(jnp.maximum(lag_PT, 0).astype(float))


def attention_of(module: Any, batch: Batch, tokens: np.ndarray, log_right_BPT: Array | None) -> dict[str, Array]:
    """Entropy, scale of scores and mass on the right hypotheses, each [B, P, L × N]."""
    rows: dict[str, list[Array]] = {"entropy_bits": [], "scale": [], "mass": []}
    query_P = lax.optimization_barrier(jnp.asarray(tokens))  # else XLA folds the sums over visible keys in compilation
    visible_PT = jnp.arange(batch.inputs.shape[1])[None] <= query_P[:, None]
    exact_BPT = right_BPT = None
    if log_right_BPT is not None:
        exact_BPT = jnp.exp(log_right_BPT)
        ordered = jnp.sort(exact_BPT, axis=-1, descending=True)
        before = jnp.cumsum(ordered, axis=-1) - ordered
        least = jnp.min(jnp.where(before < RIGHT, ordered, jnp.inf), axis=-1, keepdims=True)
        right_BPT = (exact_BPT >= least) & (exact_BPT > 0)

    def look(depth: int, kind: str, value: Any) -> Any:
        if kind == "scores":
            mean = jnp.mean(value, axis=-1, keepdims=True, where=visible_PT[None, None])
            spread = jnp.mean(jnp.where(visible_PT, value - mean, 0.0) ** 2, axis=-1, where=visible_PT[None, None])
            rows["scale"].append(jnp.sqrt(spread))
        else:
            entropy = -jnp.sum(jnp.where(value > 0, value * jnp.log2(jnp.maximum(value, 1e-30)), 0.0), axis=-1)
            rows["entropy_bits"].append(entropy)
            if exact_BPT is not None and right_BPT is not None:
                held = jnp.sum(jnp.where(right_BPT, exact_BPT, 0.0), axis=-1)
                rows["mass"].append(jnp.sum(jnp.where(right_BPT[:, None], value, 0.0), axis=-1) / held[:, None])
        return value

    module(batch.inputs, tokens, tap=Tap(look, "scores", "attention"))
    results = {name: jnp.moveaxis(jnp.concatenate(of, axis=1), 1, -1) for name, of in rows.items() if of}
    if exact_BPT is not None and right_BPT is not None:
        held = jnp.sum(jnp.where(right_BPT, exact_BPT, 0.0), axis=-1)
        results["uniform_mass"] = jnp.sum(right_BPT, axis=-1) / jnp.sum(visible_PT, axis=-1)[None] / held
    return results


def repaired(
    module: Any, batch: Batch, tokens: np.ndarray, log_p_BPV: Array, log_right_BPT: Array, log_prior_PT: Array,
    slopes_LN: Array, repair: str,
) -> Array:  # fmt: skip
    """[B, P]: KL (bits) after a `repair` of the scores of every head that has a slope c: of its `position`, its content
    (`dilution`), `both`, or `none`.
    """
    likelihood_BPT = log_right_BPT - log_prior_PT[None]
    kept: dict[str, Array] = {}

    def mend(depth: int, kind: str, value: Any) -> Any:
        if kind != "scores":
            kept[kind] = value
            return value
        c_N11 = slopes_LN[depth][:, None, None]
        q, k = kept["queries"], kept["keys"]
        rows = tokens if q.shape[2] != len(tokens) else np.arange(len(tokens))
        content = jnp.einsum("bnpd,bntd->bnpt", q[:, :, rows], k) / jnp.sqrt(q.shape[-1])
        position = jnp.where(jnp.isfinite(value), value - content, -jnp.inf)
        right_content = c_N11 * likelihood_BPT[:, None]
        right_position = jnp.where(jnp.isfinite(value), c_N11 * log_prior_PT[None], -jnp.inf)
        mended = (right_content if repair in ("dilution", "both") else content) + (
            right_position if repair in ("position", "both") else position
        )
        return jnp.where(jnp.isnan(c_N11), value, mended)

    tap = None if repair == "none" else Tap(mend, "queries", "keys", "scores")
    log_q_BPV = jax.nn.log_softmax(module(batch.inputs, tokens, tap=tap))
    return kl(log_p_BPV, log_q_BPV) / np.log(2)

"""Dynamics: how do scores and values move when the loss falls, and what is settled first?

With α the attention, u_i = ∂L/∂context_i and b_ij = ⟨u_i, v_j⟩, the softmax Jacobian says

    ∂L/∂s_ij = α_ij (b_ij − E_α[b_i]) = −α_ij A_ij      (advantage routing: scores rise where they lower the loss),
    ∂L/∂v_j = Σ_i α_ij u_i                                (values are pulled to the queries that use them).

These are identities, and `identity` says to which precision they hold here. What is not given is that *scores and
values move so*: they are made by shared weights, which one pair cannot have to itself. So one small step of plain SGD
is taken on the loss, and what scores and values did is correlated with what the law says each would do alone: `routing`
with α_ij A_ij, `advantage` with A_ij itself (both within a query, since a softmax sees no shift), `value` with
−Σ_i α_ij u_i. The null is the law of another sequence (`shuffled`).

Where the study was probed while it trained (`probe.every`), `timing` says when each number was settled.
"""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel.config import Study
from windtunnel.instruments.base import EXAMPLES, Build, Json, Subject, look, sequences, visible
from windtunnel.losses import CROSS_ENTROPY
from windtunnel.models.tap import Tap
from windtunnel.train import measured

STEP = 1e-3  # of the SGD step, relative to the size of the parameters
SETTLED = 0.05  # of its whole way: a number this near to its end, and staying so, is settled
TIMED = ("orthogonality", "sharpness", "deviation", "belief_r2")


class Forces(NamedTuple):
    """Gradients of the mean loss (nats a prediction), by depth: with respect to parameters, and to what taps show."""

    params: Any
    scores: dict[int, Array]
    context: dict[int, Array]
    values: dict[int, Array]


def refusal(subject: Subject) -> str | None:
    return None if subject.study.model.heads else f"model {subject.study.model.name} has no attention"


def measure(subject: Subject) -> Json:
    """`heads`: one row a layer and head; `timing`, where there is a time series."""
    seen = subject.seen
    force = forces(subject.study, subject.params, EXAMPLES, subject.model)
    size, steep = (float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))) for tree in
                   (subject.params, force.params))  # fmt: skip
    rate = STEP * size / max(steep, 1e-30)
    stepped = jax.tree.map(lambda leaf, slope: leaf - rate * slope, subject.params, force.params)
    after = look(subject.study, stepped, EXAMPLES, subject.model)
    rows, seen_TT = [], visible(seen.batch.inputs.shape[1])
    for depth in seen.depths:
        tapped = {name: np.asarray(seen.taps[name][depth], np.float64) for name in ("attention", "scores", "values")}
        later = {name: np.asarray(after.taps[name][depth], np.float64) for name in ("scores", "values")}
        pull_BNTd = np.asarray(force.context[depth], np.float64)
        A_BNTT = advantage(tapped["attention"], pull_BNTd, tapped["values"])
        routed_BNTT, valued_BNTd = tapped["attention"] * A_BNTT, value_force(tapped["attention"], pull_BNTd)
        slope_BNTT, slope_BNTd = (np.asarray(of[depth], np.float64) for of in (force.scores, force.values))
        off = max(
            np.abs(slope_BNTT + routed_BNTT).max() / max(np.abs(slope_BNTT).max(), 1e-30),
            np.abs(slope_BNTd - valued_BNTd).max() / max(np.abs(slope_BNTd).max(), 1e-30),
        )
        for head in range(A_BNTT.shape[1]):
            moved = within(
                np.where(seen_TT, later["scores"][:, head], 0) - np.where(seen_TT, tapped["scores"][:, head], 0)
            )
            drift = later["values"][:, head] - tapped["values"][:, head]
            laws = {"routing": (moved, within(routed_BNTT[:, head])), "advantage": (moved, within(A_BNTT[:, head])),
                    "value": (drift, -valued_BNTd[:, head])}  # fmt: skip
            rows.append(
                {
                    "layer": depth,
                    "head": head,
                    "identity": float(off),
                    **{name: correlation(a, b) for name, (a, b) in laws.items()},
                    "shuffled": {name: correlation(a, np.roll(b, 1, axis=0)) for name, (a, b) in laws.items()},
                }
            )
    return {"heads": rows, "timing": timing(subject.folder)}


def lines(record: Json) -> list[str]:
    said = [
        f"head {row['layer']}.{row['head']}: in a step of SGD scores follow α A with correlation "
        f"{_shown(row['routing'])} (another sequence's {_shown(row['shuffled']['routing'])}), A itself "
        f"{_shown(row['advantage'])}; values follow their queries {_shown(row['value'])} "
        f"({_shown(row['shuffled']['value'])})"
        for row in record["heads"]
    ]
    if record["timing"]:
        when = ", ".join(f"{name} at step {step}" for name, step in record["timing"]["settled"].items())
        said.append(f"settled: {when}; KL was then {record['timing']['kl_left']:.2g} times its end")
    return said


def headline(record: Json) -> dict[str, float | None]:
    def mean(name: str) -> float | None:
        values = [row[name] for row in record["heads"] if row[name] is not None]
        return sum(values) / len(values) if values else None

    return {name: mean(name) for name in ("routing", "advantage", "value")}


@partial(jax.jit, static_argnames=("count", "model"))
def forces(study: Study, params: Any, count: int, model: Build) -> Forces:
    """Gradients of cross-entropy on sequences that no training sees. What a tap adds to an intermediate value, zero
    here, has the gradient of that value.
    """
    tables, batch = sequences(study, count)
    kinds = ("scores", "context", "values")
    plainly = replace(study, train=replace(study.train, terms={}))  # other terms may want taps of their own

    def loss(params: Any, added: dict[str, dict[int, Array]]) -> Array:
        tap = Tap(lambda depth, kind, value: value + added[kind][depth], *kinds)
        return mean_loss(params, tap)

    def mean_loss(params: Any, tap: Tap) -> Array:
        module = model(study, params)

        def everywhere(inputs: Array, tokens: np.ndarray, **_: Any) -> Array:  # a tap is shown what is read: all tokens
            return module(inputs, np.arange(inputs.shape[1]), tap=tap)[:, tokens]

        total, weight = measured(plainly, tables, batch, everywhere)[CROSS_ENTROPY]
        return total / weight

    zeros: dict[str, dict[int, Array]] = {kind: {} for kind in kinds}

    def note(depth: int, kind: str, value: Array) -> Array:
        zeros[kind][depth] = jnp.zeros_like(value)
        return value

    mean_loss(params, Tap(note, *kinds))
    slope, slopes = jax.grad(loss, argnums=(0, 1))(params, zeros)
    return Forces(slope, **slopes)


def advantage(attention_BNTT: np.ndarray, pull_BNTd: np.ndarray, values_BNTd: np.ndarray) -> np.ndarray:
    """A_ij = −(b_ij − E_α[b_i]) with b_ij = ⟨u_i, v_j⟩; 0 for keys that a query cannot see."""
    b_BNTT = np.einsum("bnid,bnjd->bnij", pull_BNTd, values_BNTd)
    expected = np.sum(attention_BNTT * b_BNTT, axis=-1, keepdims=True)
    return np.where(visible(b_BNTT.shape[-1]), expected - b_BNTT, 0.0)


def value_force(attention_BNTT: np.ndarray, pull_BNTd: np.ndarray) -> np.ndarray:
    """Σ_i α_ij u_i"""
    return np.einsum("bnij,bnid->bnjd", attention_BNTT, pull_BNTd)


def within(x_BTT: np.ndarray) -> np.ndarray:
    """Less its mean over the keys that each query sees; NaN for the others."""
    seen = visible(x_BTT.shape[-1])
    mean = np.where(seen, x_BTT, 0.0).sum(axis=-1, keepdims=True) / seen.sum(axis=-1)[:, None]
    return np.where(seen, x_BTT - mean, np.nan)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of all entries that are numbers in both; NaN where one does not vary."""
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both] - a[both].mean(), b[both] - b[both].mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else float("nan")


def timing(folder: Path | None) -> Json | None:
    """`settled`: the first step from which a number stays within 5 % of its whole way from its end; `kl_left`: the KL
    when the first of them was, as a multiple of the last. A frame before precision has a `kl_left` well above 1.
    """
    path = None if folder is None else folder / "probe.jsonl"
    if path is None or not path.exists():
        return None
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    if len(rows) < 5:
        return None
    step, settled = [row["step"] for row in rows], {}
    for name in TIMED:
        values = np.asarray([np.nan if row.get(name) is None else row[name] for row in rows], float)
        if np.isfinite(values).all() and np.ptp(values) > 0:
            settled[name] = step[settled_from(values)]
    if not settled:
        return None
    kl = {row["step"]: row["kl_bits"] for row in rows}
    return {"settled": settled, "kl_left": kl[min(settled.values())] / kl[step[-1]]}


def settled_from(values: np.ndarray) -> int:
    """The first index from which all values are within 5 % of the whole way from the last."""
    away = np.flatnonzero(np.abs(values - values[-1]) > SETTLED * np.ptp(values))
    return int(away[-1]) + 1 if len(away) else 0


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"

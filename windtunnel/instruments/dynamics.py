"""Dynamics: how do scores and values move when the loss falls, and which numbers settle first?

With α the attention, u_i = ∂L/∂context_i and b_ij = ⟨u_i, v_j⟩, the softmax Jacobian says

    ∂L/∂s_ij = α_ij (b_ij − E_α[b_i]) = −α_ij A_ij      (advantage routing: scores rise where they lower the loss),
    ∂L/∂v_j = Σ_i α_ij u_i                                (values move towards the queries that use them).

These are identities, and `identity` is the relative error to which they hold here. They do not imply that scores and
values *move* this way in training: all pairs share the weights that make them. So one small step of plain SGD is taken
on the loss, and the changes of scores and values are correlated with the changes that the law predicts for each alone:
`routing` with α_ij A_ij, `advantage` with A_ij itself (both within a query, since a softmax ignores shifts), `value`
with −Σ_i α_ij u_i. The null is the law of another sequence (`shuffled`).

If the study was probed in training (`probe.every`), `timing` says when each number settled.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel import records
from windtunnel.config import Study
from windtunnel.instruments.base import EXAMPLES, Build, Json, Subject, look, sequences, visible
from windtunnel.losses import CROSS_ENTROPY
from windtunnel.models.tap import Tap
from windtunnel.train import measured

STEP = 1e-3  # the length of the SGD step, relative to the norm of the parameters
SETTLED = 0.05  # a number has settled once its distance from its last value stays within this share of its range
TIMED = ("orthogonality", "sharpness", "deviation", "belief_r2")


class Forces(NamedTuple):
    """Gradients of the mean loss (nats per prediction) with respect to parameters and, by depth, to tapped values."""

    params: Any
    scores: dict[int, Array]
    context: dict[int, Array]
    values: dict[int, Array]


def refusal(subject: Subject) -> str | None:
    return None if subject.study.model.heads else f"model {subject.study.model.name} has no attention"


def measure(subject: Subject) -> Json:
    """`heads`: one row for each layer and head; `timing`, where there is a time series."""
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
    sentences = [
        f"head {row['layer']}.{row['head']}: in a step of SGD scores follow α A with correlation "
        f"{_number(row['routing'])} (another sequence's {_number(row['shuffled']['routing'])}), A itself "
        f"{_number(row['advantage'])}; values follow their queries {_number(row['value'])} "
        f"({_number(row['shuffled']['value'])})"
        for row in record["heads"]
    ]
    if record["timing"]:
        when = ", ".join(f"{name} at step {step}" for name, step in record["timing"]["settled"].items())
        sentences.append(f"settled: {when}; KL was then {record['timing']['kl_left']:.2g} times its end")
    return sentences


def headline(record: Json) -> dict[str, float | None]:
    def mean(name: str) -> float | None:
        values = [row[name] for row in record["heads"] if row[name] is not None]
        return sum(values) / len(values) if values else None

    return {name: mean(name) for name in ("routing", "advantage", "value")}


@partial(jax.jit, static_argnames=("count", "model"))
def forces(study: Study, params: Any, count: int, model: Build) -> Forces:
    """Gradients of cross-entropy on sequences that training never sees. A tap adds zeros to each intermediate value;
    the gradient with respect to these zeros is that of the value.
    """
    tables, batch = sequences(study, count)
    kinds = ("scores", "context", "values")
    plainly = replace(study, train=replace(study.train, terms={}))  # other terms may want taps of their own

    def loss(params: Any, added: dict[str, dict[int, Array]]) -> Array:
        tap = Tap(lambda depth, kind, value: value + added[kind][depth], *kinds)
        return mean_loss(params, tap)

    def mean_loss(params: Any, tap: Tap) -> Array:
        module = model(study, params)

        def everywhere(inputs: Array, tokens: np.ndarray, **_: Any) -> Array:  # so that taps see all tokens
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
    """x minus its mean over the keys that each query sees; NaN for the other keys."""
    seen = visible(x_BTT.shape[-1])
    mean = np.where(seen, x_BTT, 0.0).sum(axis=-1, keepdims=True) / seen.sum(axis=-1)[:, None]
    return np.where(seen, x_BTT - mean, np.nan)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """The correlation over all entries that are finite in both; NaN if one does not vary."""
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both] - a[both].mean(), b[both] - b[both].mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else float("nan")


def timing(folder: Path | None) -> Json | None:
    """`settled`: for each number, the first step from which it stays within 5 % of its range from its last value.
    `kl_left`: the KL when the first number settled, as a multiple of the last KL; well above 1 if the frame of keys
    settles before predictions become precise.
    """
    path = None if folder is None else folder / "probe.jsonl"
    if path is None or not path.exists():
        return None
    rows = records.read_lines(path, records.STEP)
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
    """The first index from which all values are within 5 % of their range from the last value."""
    away = np.flatnonzero(np.abs(values - values[-1]) > SETTLED * np.ptp(values))
    return int(away[-1]) + 1 if len(away) else 0


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"

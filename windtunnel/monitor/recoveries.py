"""Recoveries: what is done where something fails that was good before.

Each kind is tried at most `monitor.recover.tries` times, and only where its monitor was good once, since what is not
trained yet fails too. Parameters, moments, rates and tries of a pack are part of its checkpoint, so a recovery that is
cut off ends as it would have ended.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from windtunnel.config import Study
from windtunnel.faults import APPROXIMATE
from windtunnel.matrices import stacked
from windtunnel.models.inference import EXACT, Hierarchical
from windtunnel.models.parameters import Path, tree_map
from windtunnel.records import Json
from windtunnel.train import State

ORTHOGONALITY, KL, NOT_FINITE = range(3)  # the kinds
NEVER = 2**31 - 1  # the step of a fault that is over


class Watch(NamedTuple):
    """What is remembered of S studies. `good` is the last state that was good, at `good_step`; `rate` the factor of the
    learning rate; `mended` the step from which exact softmax is in place of an approximation, and `fell` the one from
    which the closed form answers (−1: not), with `slopes` [S, L × N] of the heads. `good_once` [S, 2]: whether
    orthogonality and KL were good. What is `lost` is not finite, after all tries.
    """

    good: Any
    good_step: np.ndarray
    rate: np.ndarray
    mended: np.ndarray
    fell: np.ndarray
    slopes: np.ndarray
    tries: np.ndarray
    good_once: np.ndarray
    lost: np.ndarray


def watch(state: State, studies: int, heads: int) -> Watch:
    """Before the first step, which is good until something better is known."""
    good = jax.tree.map(lambda leaf: np.array(leaf[:studies]), state)
    none = np.full(studies, -1, np.int32)
    return Watch(good, np.zeros(studies, np.int32), np.ones(studies, np.float32), none, none.copy(),
                 np.full((studies, max(1, heads)), np.nan, np.float32), np.zeros((studies, 3), np.int32),
                 np.zeros((studies, 2), bool), np.zeros(studies, bool))  # fmt: skip


class Served(NamedTuple):
    """How a study answers after what was done, from its record."""

    rate: float = 1.0
    mended: int | None = None
    fell: int | None = None
    slopes: list[float | None] | None = None


AS_IT_IS = Served()


def going_on(study: Study, of: Served) -> Study:
    """The study as it trains on: at its rate, its fault set aside where exact softmax has taken its place. Of the same
    structure.
    """
    fault, train, monitor = study.monitor.fault, study.train, study.monitor
    if of.mended is not None and fault.name in APPROXIMATE:
        monitor = replace(monitor, fault=replace(fault, step=NEVER))
    if of.rate != 1.0:
        train = replace(train, learning_rate=train.learning_rate * of.rate)
    return replace(study, train=train, monitor=monitor)


def served(study: Study, of: Served = AS_IT_IS) -> Study:
    """The same as it answers: hierarchical where its sequences are longer than `monitor.recover.tokens`."""
    tokens, inference = study.monitor.recover.tokens, study.model.inference
    if of.mended is not None:
        inference = EXACT
    elif tokens and inference == EXACT:
        inference = Hierarchical(above=tokens)
    study = going_on(study, of)
    if inference == study.model.inference:
        return study
    return replace(study, model=replace(study.model, inference=inference))  # pyrefly: ignore[bad-argument-type, bad-specialization]


def approximates(study: Study, step: int, of: Served) -> bool:
    """Whether attention is approximate by fault or by wish, and exact softmax could take its place."""
    fault = study.monitor.fault
    struck = fault.name in APPROXIMATE and bool(fault.in_force(step))
    wished = study.model.inference != EXACT and study.tunnel.tokens(study.problem.length) > study.model.inference.above
    return of.mended is None and (struck or wished)


def orthogonal_keys(state: State, good: State) -> State:
    """Every W_K is replaced by its polar factor, by singular values, with the norm that it had when it was good; and
    the optimiser forgets its moments of it. A direction that W_K had lost is any that is orthogonal to the others.
    """

    def polar(path: Any, leaf: np.ndarray, before: np.ndarray) -> np.ndarray:
        if not path.is_key:
            return leaf
        left, size, right = np.linalg.svd(leaf.astype(np.float64), full_matrices=False)
        norm = np.linalg.norm(before if np.isfinite(before).all() else leaf)
        return (norm / np.sqrt(len(size)) * left @ right).astype(leaf.dtype)

    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf, before: polar(Path.of(path), leaf, before), state.params, good.params
    )
    kept = jax.tree.map(np.asarray, stacked(tree_map(lambda path, leaf: np.full(leaf.shape, not path.is_key), params)))

    def forget(path: Any, leaf: np.ndarray) -> np.ndarray:
        key = getattr(path[-1], "key", None)
        return leaf * kept[key] if key in kept and leaf.shape == kept[key].shape else leaf

    return state._replace(params=params, optimizer=jax.tree_util.tree_map_with_path(forget, state.optimizer))


def back(state: State, good: State) -> State:
    """The good parameters and moments, at the step and the place in every schedule where training is now."""
    return jax.tree.map(lambda now, then: then if np.issubdtype(then.dtype, np.floating) else now, state, good)


def recovered(
    study: Study, row: Json, step: int, state: State, of: Watch, index: int, closes: bool
) -> tuple[State, list[Json]]:
    """What is done after a check of one study: its state, and events. Changes its row of the watch. `closes` says
    whether its tunnel has a closed form for attention.
    """
    limits, most, last = study.monitor.recover, study.monitor.recover.tries, step == study.train.steps
    value = {name: row["monitors"][name]["value"] for name in ("orthogonality", "kl_bits")}
    broken = row["monitors"]["not_finite"]["value"] != 0 or value["kl_bits"] is None
    good = jax.tree.map(lambda leaf: leaf[index], of.good)
    events: list[Json] = []

    def may(kind: int, what: str, **facts: Any) -> bool:
        if of.tries[index, kind] >= most:
            return False
        of.tries[index, kind] += 1
        events.append({"what": "recovery", "recovery": what, "tries": int(of.tries[index, kind]), **facts})
        return True

    if broken:
        since = {"from": int(of.good_step[index])}
        if may(NOT_FINITE, "back to the last good state, at half the rate", **since):
            of.rate[index] /= 2
            return back(state, good), events
        if not of.lost[index]:
            of.lost[index] = True
            events.append({"what": "given up", "why": f"not finite after {most} tries"})
        return state, events

    crooked = value["orthogonality"] is not None and value["orthogonality"] < limits.orthogonality
    wrong = value["kl_bits"] > limits.kl_bits
    new = state
    if crooked and of.good_once[index, ORTHOGONALITY] and not last and may(ORTHOGONALITY, "keys made orthogonal"):
        new = orthogonal_keys(state, good)
    if wrong and of.good_once[index, KL]:
        known = served_by(of, index)
        if approximates(study, step, known):
            if may(KL, "exact softmax in place of an approximation"):
                of.mended[index] = step
        elif closes:
            if of.fell[index] < 0 and may(KL, "closed form in place of attention"):
                of.fell[index] = step
        elif may(KL, "back to the last good state", **{"from": int(of.good_step[index])}):
            new = back(state, good)
    if of.fell[index] >= 0 and not wrong:
        of.fell[index] = -1
        events.append({"what": "restored", "why": "its own attention is good again"})
    if not (crooked and of.good_once[index, ORTHOGONALITY]) and not (wrong and of.good_once[index, KL]):
        of.good_step[index] = step
        for mine, leaf in zip(jax.tree.leaves(of.good), jax.tree.leaves(state), strict=True):
            mine[index] = leaf
    of.good_once[index] |= [value["orthogonality"] is not None and not crooked, not wrong]
    return new, events


def served_by(of: Watch, index: int) -> Served:
    """How a study goes on, by the watch."""

    def step(steps: np.ndarray) -> int | None:
        return None if steps[index] < 0 else int(steps[index])

    slopes = [float(c) if np.isfinite(c) else None for c in of.slopes[index]]
    fell = step(of.fell)
    return Served(float(of.rate[index]), step(of.mended), fell, None if fell is None else slopes)

"""What predictions depend on: attention is replaced, heads are ablated, keys are exchanged, and KL is measured again.

Every effect is ΔKL in bits, KL(exact ‖ model after) − KL(exact ‖ model), over the scored positions of the horizon,
paired by sequence, with the standard error over sequences. For a head that computes the posterior, ΔKL is near zero for
the exact attention and large for uniform attention; for a head whose attention does not matter, both are near zero.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel.compare import mean_and_error
from windtunnel.config import Study
from windtunnel.information import kl_bits
from windtunnel.instruments.base import EXAMPLES, Edit, Json, Subject, sequences, visible


def interventions(subject: Subject) -> Json:
    """`heads`: the effect for each single head of replacing its attention by the `exact` posterior, by that of another
    sequence (`shuffled`) or by `uniform`, and of ablating the head (`ablated`). `all_exact`, `all_uniform`: the effect
    of replacing all heads of all layers at once. `frames`: the effects of exchanging keys.
    """
    seen, nothing = subject.seen, subject.no_edit()
    weight_BP = np.asarray(seen.batch.weight_BP, np.float64)
    before_BP = kl_bits(np.asarray(seen.log_exact_BPV), np.asarray(seen.log_model_BPV))

    def effect(edit: Edit) -> Json:
        bits, error = mean_and_error(subject.kl_bits(edit) - before_BP, weight_BP)
        return {"bits": bits, "se": error}

    rows = replacements(subject)
    layers, heads = nothing.replace_LN.shape
    none_LN = np.zeros((layers, heads), bool)

    def replaced(name: str, where_LN: np.ndarray) -> Json:
        rows_BPT, has_BP = rows[name]
        return effect(nothing._replace(replace_LN=where_LN, rows_BPT=rows_BPT, has_BP=has_BP))

    per_head = []
    for layer, head in np.ndindex(layers, heads):
        this_LN = none_LN.copy()
        this_LN[layer, head] = True
        per_head.append(
            {
                "layer": seen.depths[layer],
                "head": head,
                **{name: replaced(name, this_LN) for name in rows},
                "ablated": effect(nothing._replace(erase_LN=this_LN)),
            }
        )
    return {
        "kl_bits": mean_and_error(before_BP, weight_BP)[0],
        "all_exact": replaced("exact", ~none_LN),
        "all_uniform": replaced("uniform", ~none_LN),
        "heads": per_head,
        "frames": [swapped_frames(subject, index, effect) for index in range(layers)],
    }


def replacements(subject: Subject) -> dict[str, tuple[Any, Any]]:
    """{name: (attention rows [B, P, T], where they are defined [B, P])}"""
    seen = subject.seen
    log_P_BPT = np.asarray(seen.log_target_BPT)
    has_BP = np.any(log_P_BPT > -np.inf, axis=-1)
    P_BPT = np.exp(log_P_BPT).astype(np.float32)
    seen_PT = visible(P_BPT.shape[-1])[np.asarray(seen.tokens)].astype(np.float32)
    uniform = np.broadcast_to(seen_PT / seen_PT.sum(axis=-1, keepdims=True), P_BPT.shape)
    return {
        "exact": (P_BPT, has_BP),
        "shuffled": (np.roll(P_BPT, 1, axis=0), np.roll(has_BP, 1, axis=0)),
        "uniform": (uniform, has_BP),
    }


def swapped_frames(subject: Subject, index: int, effect: Callable[[Edit], Json]) -> Json:
    """Every hypothesis gets the key of another, at one layer in all heads: stored pairs exchange their keys, or the
    mean keys of symbols or states are exchanged. `random` moves each key equally far in a random direction. A model
    whose keys represent the hypotheses is then wrong about the data, but right about data in which the pairs exchanged
    their keys: `counterfactual` is its KL (bits) to the posterior of such data, where they exist (`Tunnel.exchanged`).
    """
    seen, nothing = subject.seen, subject.no_edit()
    layer = seen.depths[index]
    key_BNTd, frame = np.asarray(seen.taps["keys"][layer]), seen.frame
    generator = np.random.default_rng(0)
    empty: Json = {"layer": layer, "swapped": None, "random": None, "counterfactual": None}
    if frame is None:
        return empty
    order = generator.permutation(frame.count)
    if frame.own:
        shift_BNTd = key_BNTd[:, :, order] - key_BNTd
    else:
        shift_BNTd = np.zeros_like(key_BNTd)
        of = [np.asarray(frame.label_BT) == h for h in range(frame.count)]
        flat_BTNd = key_BNTd.transpose(0, 2, 1, 3)
        means = [flat_BTNd[here].mean(axis=0) if here.any() else flat_BTNd.mean(axis=(0, 1)) for here in of]
        for h, here in enumerate(of):
            shift_BNTd += np.where(here[:, None, :, None], (means[order[h]] - means[h])[None, :, None], 0.0)
    astray = generator.standard_normal(shift_BNTd.shape).astype(shift_BNTd.dtype)
    astray *= np.linalg.norm(shift_BNTd, axis=-1, keepdims=True) / np.linalg.norm(astray, axis=-1, keepdims=True)

    def shifted(shift_BNTd: np.ndarray) -> Edit:
        moved_LBNTd = nothing.shift_LBNTd.copy()
        moved_LBNTd[index] = shift_BNTd
        return nothing._replace(shift_LBNTd=moved_LBNTd)

    record = {**empty, "swapped": effect(shifted(shift_BNTd)), "random": effect(shifted(astray))}
    log_p_BPV = with_keys_exchanged(subject.study, EXAMPLES, order)
    if log_p_BPV is not None:
        kl_BP = kl_bits(np.asarray(log_p_BPV), subject.log_predictive(shifted(shift_BNTd)))
        record["counterfactual"] = mean_and_error(kl_BP, np.asarray(seen.batch.weight_BP, np.float64))[0]
    return record


@partial(jax.jit, static_argnames="count")
def with_keys_exchanged(study: Study, count: int, order: Array) -> Array | None:
    """[B, P, V]: the exact predictive (nats) if hypothesis j had the key of `order[j]`; None if inputs have no keys."""
    tables, batch = sequences(study, count)
    exchanged = study.tunnel.exchanged(batch, order)
    if exchanged is None:
        return None
    return study.tunnel.log_predictive(tables, exchanged, jnp.arange(study.horizon))

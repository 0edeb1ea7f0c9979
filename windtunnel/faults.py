"""Faults on purpose: what goes wrong in a study at a step, so that monitors and recoveries can be tried.

Three kinds, by what they hit. In the *parameters*, before a step: `rank_one` leaves of every W_K its largest singular
direction, `merged` takes out of it the direction in which the mean keys of two domains (or of two symbols) differ, and
`nan_parameter` makes one number a NaN. In the *gradient*: `nan_gradient` does so. In what attention *computes*:
`logits` multiplies its content by 4, `bfloat16` rounds queries and keys, `offset` gives every query the keys and values
of the tokens one earlier, and `cells` puts in place of a key the mean of the keys so far in its cell, of two cells.

They are part of the compiled step of those studies that have one, and of no other program. The step of a fault is a
knob: all that have the same fault share one program.
"""

from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array
from pydantic import Field

from windtunnel.models.parameters import tree_map
from windtunnel.models.tap import Tap
from windtunnel.spec import Knob, spec

Step = Annotated[int, Field(ge=0, lt=2**31), Knob]

PARAMETERS, GRADIENT = ("rank_one", "merged", "nan_parameter"), ("nan_gradient",)
# What attention shows a tap, and the fault changes.
HIT = {"logits": ("queries",), "bfloat16": ("queries", "keys"), "offset": ("keys", "values"), "cells": ("keys",)}
COMPUTING = tuple(HIT)
APPROXIMATE = ("bfloat16", "cells")  # what exact softmax, in full precision, puts right
FACTOR = 4.0  # of `logits`


@spec
class Fault:
    """`name` goes wrong before the step numbered `step` (from 0), and in so many `steps`; 0: in all that follow."""

    name: (
        Literal["rank_one", "merged", "nan_parameter", "nan_gradient", "logits", "bfloat16", "offset", "cells"] | None
    ) = None
    step: Step = 0
    steps: Step = 1

    def in_force(self, step: Any) -> Any:
        """Whether it is, when so many steps have been done."""
        return (step >= self.step) & ((self.steps == 0) | (step - self.step < self.steps))


class Faulty(Tap):
    """A tap around another: the model goes on with what the fault makes of a value, and the inner tap sees that; one
    that has a method `original` is shown before what was right.
    """

    def __init__(self, fault: Fault, step: Any, inner: Tap):
        super().__init__(inner.look, *inner.kinds)
        self.name, self.active, self.inner, self.wants = fault.name, fault.in_force(step), inner, inner.wants

    def __call__(self, depth: int, kind: str, value: Any) -> Any:
        if kind in HIT.get(self.name or "", ()):
            if (original := getattr(self.inner, "original", None)) is not None:
                original(depth, kind, value)
            value = jnp.where(self.active, computed(self.name, value), value)
        return self.inner(depth, kind, value)


def tap(fault: Fault, step: Any, inner: Tap) -> Tap:
    """`inner`, or where the fault is in what attention computes, `inner` under the fault."""
    return Faulty(fault, step, inner) if fault.name in COMPUTING else inner


def computed(name: str | None, value: Array) -> Array:
    """Queries, keys or values [B, N, T, d] as the fault makes them."""
    if name == "logits":
        return FACTOR * value
    if name == "bfloat16":
        return value.astype(jnp.bfloat16).astype(value.dtype)
    if name == "offset":
        return jnp.concatenate([value[:, :, :1], value[:, :, :-1]], axis=2)
    positive = value[..., :1] > 0  # two cells, by the sign of the first channel
    means = []
    for cell in (positive, ~positive):
        count = jnp.cumsum(cell, axis=2)
        means.append(jnp.cumsum(jnp.where(cell, value, 0.0), axis=2) / jnp.maximum(count, 1))
    return jnp.where(positive, *means)


def struck(fault: Fault, params: Any, step: Array, directions: Any) -> Any:
    """The parameters before a step, as the fault leaves them. `directions()` are what `merged` takes out of W_K: unit
    vectors [D] by the name of the layer.
    """
    if fault.name not in PARAMETERS:
        return params

    def strike(params: Any) -> Any:
        if fault.name == "nan_parameter":
            leaves, tree = jax.tree.flatten(params)
            first = leaves[0].ravel().at[0].set(jnp.nan).reshape(leaves[0].shape)
            return jax.tree.unflatten(tree, [first, *leaves[1:]])
        unit = directions() if fault.name == "merged" else {}

        def hit(path: Any, leaf: Array) -> Array:
            if not path.is_key:
                return leaf
            if fault.name == "merged":
                unit_D = unit[path.names[path.names.index("layers") + 1]]
                return leaf - jnp.outer(leaf @ unit_D, unit_D)
            left, size, right = jnp.linalg.svd(leaf, full_matrices=False)
            return size[0] * jnp.outer(left[:, 0], right[0])

        return tree_map(hit, params)

    return lax.cond(fault.in_force(step), strike, lambda params: params, params)


def spoiled(fault: Fault, gradients: Any, step: Array) -> Any:
    """The gradients, with the NaN that the fault puts into one number."""
    if fault.name not in GRADIENT:
        return gradients
    leaves, tree = jax.tree.flatten(gradients)
    first = leaves[0].ravel()
    first = first.at[0].set(jnp.where(fault.in_force(step), jnp.nan, first[0])).reshape(leaves[0].shape)
    return jax.tree.unflatten(tree, [first, *leaves[1:]])


def apart(keys: dict[int, Array], weight_BTK: Array, layers: int, total: Any) -> dict[str, Array]:
    """{layer: [D]}: the unit vector from the mean key of the second group to that of the first, all heads together.
    `keys` are [B, N, T, d] by depth, and the groups are weighed by `weight_BTK`; `total` sums over devices.
    """
    units = {}
    for depth in range(layers):
        k_BTD = jnp.moveaxis(keys[depth], 1, 2).reshape(*weight_BTK.shape[:2], -1)
        sums_KD, count_K = total((jnp.einsum("btk,btd->kd", weight_BTK, k_BTD), jnp.sum(weight_BTK, axis=(0, 1))))
        mean_KD = sums_KD / jnp.maximum(count_K, 1e-6)[:, None]
        away_D = mean_KD[0] - mean_KD[1]
        units[str(depth)] = away_D / jnp.maximum(jnp.linalg.norm(away_D), 1e-12)
    return units

"""The optimiser's view of parameters: all hidden matrices of one shape as one stack, and everything else as one vector.

An update then takes a few batched matrix products instead of many small ones.
"""

import itertools
from collections import defaultdict
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from windtunnel.models.parameters import tree_map

REST = "rest"  # the key, beside those of the stacks, of all parameters that are not hidden matrices


def hidden(params: Any) -> Any:
    """Which parameters are hidden matrices: the kernels of linear maps inside a layer."""
    return tree_map(lambda path, leaf: leaf.ndim == 2 and path.is_matrix, params)


def on_stacks(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner` applied to {shape: stack [K, m, n] of the K hidden matrices of that shape, REST: vector of all else}."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        new_updates, state = inner.update(stacked(updates), state, None if params is None else stacked(params))
        return unstacked(new_updates, updates), state

    return optax.GradientTransformation(lambda params: inner.init(stacked(params)), update)  # pyrefly: ignore[bad-argument-type]


def groups(tree: Any) -> dict[str, list[int]]:
    """{shape: the indices of the leaves that are hidden matrices of this shape, REST: the indices of the others}."""
    indices_of: dict[str, list[int]] = defaultdict(list)
    for index, (leaf, is_hidden) in enumerate(zip(jax.tree.leaves(tree), jax.tree.leaves(hidden(tree)), strict=True)):
        indices_of["x".join(map(str, leaf.shape)) if is_hidden else REST].append(index)
    return indices_of


def stacked(tree: Any) -> dict[str, Any]:
    """The stacks and the vector of a tree of parameters."""
    leaves = jax.tree.leaves(tree)

    def join(key: str, indices: list[int]) -> Any:
        if key == REST:
            return jnp.concatenate([leaves[i].ravel() for i in indices])
        return jnp.stack([leaves[i] for i in indices])

    return {key: join(key, indices) for key, indices in groups(tree).items()}


def unstacked(stacks: Any, like: Any) -> Any:
    """The inverse of `stacked`; `like` has the structure and the shapes of the tree."""
    leaves, tree = jax.tree.flatten(like)
    for key, indices in groups(like).items():
        sizes = [leaves[i].size for i in indices]
        parts = jnp.split(stacks[key], [sum(sizes[:i]) for i in range(1, len(sizes))]) if key == REST else stacks[key]
        for index, part in zip(indices, parts, strict=True):
            leaves[index] = part.reshape(leaves[index].shape)
    return jax.tree.unflatten(tree, leaves)


def shared(inner: optax.GradientTransformation, axis: str) -> optax.GradientTransformation:
    """`inner`, which updates every matrix of a stack by itself, with the work shared by the devices of a mesh axis:
    each device updates its share of the matrices; an all-gather returns all of them.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        devices, device = lax.axis_size(axis), lax.axis_index(axis)

        def own_share(leaf: Any) -> Any:
            if leaf.ndim != 3:
                return leaf
            padded = jnp.pad(leaf, ((0, -len(leaf) % devices), (0, 0), (0, 0)))
            return lax.dynamic_slice_in_dim(padded, device * (len(padded) // devices), len(padded) // devices)

        new_updates, new_state = inner.update(*(jax.tree.map(own_share, tree) for tree in (updates, state, params)))
        return gathered((new_updates, new_state), (updates, state), axis)

    return optax.GradientTransformation(inner.init, update)  # pyrefly: ignore[bad-argument-type]


def gathered(shares: Any, whole: Any, axis: str) -> Any:
    """The whole stacks from every device's share, in one all-gather. Other leaves are already replicated."""
    leaves, tree = jax.tree.flatten(shares)
    wholes = jax.tree.leaves(whole)
    stacks = [i for i, leaf in enumerate(leaves) if leaf.ndim == 3]
    every = lax.all_gather(jnp.concatenate([leaves[i].ravel() for i in stacks]), axis)  # [devices, …]
    ends = list(itertools.accumulate(leaves[i].size for i in stacks))
    for i, part in zip(stacks, jnp.split(every, ends[:-1], axis=1), strict=True):
        leaves[i] = part.reshape(-1, *leaves[i].shape[1:])[: len(wholes[i])]
    return jax.tree.unflatten(tree, leaves)

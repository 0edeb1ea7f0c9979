"""How gradients become updates. Every rate is a knob, so studies with different rates share one compiled program."""

from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array
from optax.contrib import MuonDimensionNumbers, muon

from windtunnel.config import Train
from windtunnel.matrices import REST, on_stacks, shared
from windtunnel.models.parameters import Path, tree_map

# Of optax and of Jordan 2024. Given once for each of five steps, optax scans over these instead of writing them out,
# which was a quarter of all there was to compile of a training step.
NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315


def optimizer(train: Train, axis: str | None = None) -> optax.GradientTransformation:
    """Clipping, then Muon on the hidden matrices and Adam on the rest (or AdamW or SGD on all), with one schedule.
    Finally the updates of each part of attention are multiplied by a rate or alternate in phases (`config.Em`).

    Weight decay applies to hidden matrices only: not to embeddings, norms, biases or parameters of a positional prior.
    With `axis`, the devices of that mesh axis, which have the same gradients, share the work.
    """
    unit = optax.warmup_cosine_decay_schedule(0.0, 1.0, max(1, int(train.warmup * train.steps)), train.steps)

    def rate(factor: Any) -> optax.Schedule:
        return lambda count: factor * unit(count)

    def on_matrices(value: Any, otherwise: Any) -> Any:
        return lambda stacks: {key: otherwise if key == REST else value for key in stacks}

    mask = on_matrices(True, False)
    if train.optimizer == "adamw":
        step = optax.adamw(rate(train.learning_rate), weight_decay=train.weight_decay, mask=mask)
    elif train.optimizer == "sgd":
        decay = optax.add_decayed_weights(train.weight_decay, mask=mask)
        step = optax.chain(decay, optax.sgd(rate(train.learning_rate)))
    else:
        step = muon(
            rate(train.learning_rate),
            ns_coeffs=(NEWTON_SCHULZ,) * 5,
            weight_decay=train.weight_decay,
            adam_learning_rate=rate(train.learning_rate * train.adam_rate),
            muon_weight_dimension_numbers=on_matrices(MuonDimensionNumbers(1, 2), None),
        )
        step = step if axis is None else shared(step, axis)
    return optax.chain(on_stacks(optax.chain(optax.clip_by_global_norm(train.clip), step)), em(train))


def em(train: Train) -> optax.GradientTransformation:
    """Multiply the updates of the parts of attention by their rates; with phases, by 0 while the other part moves.

    Scales updates, not gradients: Adam and Muon do not notice the scale of a gradient.
    """
    multiple = {"routing": train.em.routing, "value": train.em.value, "output": train.em.output, "other": 1.0}

    def update(updates: Any, count: Array, params: Any = None) -> tuple[Any, Array]:
        routing_moves = (count // jnp.maximum(train.em.phase, 1)) % 2 == 0

        def scaled(path: Path, leaf: Array) -> Array:
            moves = (train.em.phase == 0) | (routing_moves == (path.role == "routing"))
            return leaf * jnp.where(moves, multiple[path.role], 0.0).astype(leaf.dtype)

        return tree_map(scaled, updates), count + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)  # pyrefly: ignore[bad-argument-type]

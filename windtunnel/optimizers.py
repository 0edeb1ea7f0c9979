"""How gradients become steps. Every rate is a knob, so rates share one compiled program."""

from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon

from windtunnel.config import Train


def optimizer(train: Train) -> optax.GradientTransformation:
    """Clipping, then Muon on the hidden matrices and Adam on the rest (or AdamW on all), along one schedule.

    Only hidden matrices decay: not embeddings, norms or biases, and never what is learned of a positional prior.
    """
    unit = optax.warmup_cosine_decay_schedule(0.0, 1.0, max(1, int(train.warmup * train.steps)), train.steps)

    def rate(factor: Any) -> optax.Schedule:
        return lambda count: factor * unit(count)

    if train.optimizer == "adamw":
        step = optax.adamw(rate(train.learning_rate), weight_decay=train.weight_decay, mask=hidden)
    else:
        step = muon(
            rate(train.learning_rate),
            weight_decay=train.weight_decay,
            adam_learning_rate=rate(train.learning_rate * train.adam_rate),
            muon_weight_dimension_numbers=lambda params: jax.tree.map(
                lambda is_hidden: MuonDimensionNumbers() if is_hidden else None, hidden(params)
            ),
        )
    return optax.chain(optax.clip_by_global_norm(train.clip), step)


def hidden(params: Any) -> Any:
    """Which parameters are the kernels of linear maps inside a layer. What is learned of a positional prior, a
    convolution or a decay may have two axes too, but is no map from one space to another.
    """

    def is_hidden(path: tuple[Any, ...], leaf: Any) -> bool:
        keys = {getattr(part, "key", None) for part in path}
        return leaf.ndim == 2 and {"layers", "kernel"} <= keys and "learned" not in keys

    return jax.tree_util.tree_map_with_path(is_hidden, params)

"""Training as two pure functions of a study: `start` and `advance`. They know nothing of sweeps, files or Hydra."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from windtunnel.config import Study
from windtunnel.models import Shape, parameters, with_parameters
from windtunnel.optimizers import optimizer
from windtunnel.tunnels import Batch

CHUNK = 128  # the most steps in one call of `advance`

# What a seed is used for; evaluation draws from a root of its own (`evaluate.py`).
START, DATA, MODEL = 0, 1, 2


class State(NamedTuple):
    """All that training carries from one step to the next."""

    params: Any
    optimizer: Any
    step: Array


def build(study: Study, key: Array) -> Any:
    """The study's model, freshly initialised."""
    tunnel = study.tunnel
    shape = Shape(tunnel.features, tunnel.vocabulary, tunnel.outcomes, tunnel.tokens(study.horizon))
    return study.model.build(study.position, shape, key)


def start(study: Study) -> State:
    """The state before the first step."""
    params = parameters(build(study, stream(study, START)))
    return State(params, optimizer(study.train).init(params), jnp.zeros((), jnp.int32))


def prepare(study: Study) -> Any:
    """What the tunnel computes once per study: the `tables` of `advance`."""
    return study.tunnel.prepare(study.horizon)


def advance(study: Study, tables: Any, state: State, steps: Array, axis: str | None = None) -> tuple[State, Array]:
    """Take `steps` ≤ CHUNK steps; also float[CHUNK], the KL to the exact posterior (bits) at each, NaN after the last.

    An example depends on (seed, step, its number in the batch) alone: neither how steps are cut into calls nor how a
    batch is split over devices changes what is seen. With `axis`, the batch is split over the devices of that mesh
    axis and the gradients are summed.
    """
    module = build(study, stream(study, START))
    share = study.train.batch // (1 if axis is None else lax.axis_size(axis))
    first = 0 if axis is None else share * lax.axis_index(axis)
    transformation = optimizer(study.train, axis)

    def total(tree: Any) -> Any:
        if axis is None:
            return tree
        flat, unravel = ravel_pytree(tree)  # one vector: leaf by leaf it takes a CPU far longer
        return unravel(lax.psum(flat, axis))

    def step(index: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
        state, kl_bits = carry
        batch = examples(study, tables, jax.random.fold_in(stream(study, DATA), state.step), first + jnp.arange(share))
        key_model = jax.random.fold_in(stream(study, MODEL), state.step)

        def loss(params: Any) -> tuple[Array, Array]:
            model = with_parameters(module, params)
            logits_BPV = model(batch.inputs, study.tunnel.scored(study.horizon), key=key_model)
            return losses(study, tables, batch, logits_BPV)

        gradients, kl = jax.grad(loss, has_aux=True)(state.params)
        gradients, kl, weight = total((gradients, kl, jnp.sum(batch.weight_BP)))  # one meeting of the devices
        gradients = jax.tree.map(lambda leaf: leaf / weight, gradients)
        updates, memory = transformation.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(params, memory, state.step + 1), kl_bits.at[index].set(kl / weight / math.log(2))

    return lax.fori_loop(0, steps, step, (state, jnp.full(CHUNK, jnp.nan)))


def examples(study: Study, tables: Any, key: Array, numbers: Array) -> Batch:
    """The examples of a step that have these numbers, each drawn from a key of its own."""
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
    drawn = jax.vmap(lambda key: study.tunnel.sample(key, tables, 1, study.horizon))(keys)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), drawn)


def losses(study: Study, tables: Any, batch: Batch, logits_BPV: Array) -> tuple[Array, Array]:
    """Weighted sums over the batch (nats): the cross-entropy to train on, and KL(exact ‖ model) to report."""
    log_q_BPV = jax.nn.log_softmax(logits_BPV)
    log_p_BPV = study.tunnel.log_predictive(tables, batch, jnp.arange(study.horizon))
    p_BPV = jnp.exp(log_p_BPV)
    possible_BPV = p_BPV > 0
    kl_BP = jnp.sum(jnp.where(possible_BPV, p_BPV * (jnp.where(possible_BPV, log_p_BPV, 0) - log_q_BPV), 0), axis=-1)
    kl = jnp.sum(kl_BP * batch.weight_BP)
    if study.train.supervision == "posterior":
        target_BPV = p_BPV
    else:
        target_BPV = jax.nn.one_hot(batch.outcome_BP, study.tunnel.outcomes)
    return -jnp.sum(target_BPV * log_q_BPV * batch.weight_BP[..., None]), kl


def stream(study: Study, use: int) -> Array:
    """The key of one of the study's independent streams of randomness."""
    return jax.random.fold_in(jax.random.key(study.seed), use)

"""Training as two pure functions of a study: `start` and `advance`. They know nothing of sweeps, files or Hydra."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from windtunnel import faults
from windtunnel.acting import Acted, experience
from windtunnel.config import Study
from windtunnel.losses import Look, Sum, combined, curve_names, first, means, terms
from windtunnel.models import Shape, parameters, with_parameters
from windtunnel.models.cells import fitted
from windtunnel.models.tap import Closed, Collect
from windtunnel.optimizers import optimizer
from windtunnel.problem import Problem
from windtunnel.tunnels import Batch, Tables

CHUNK = 128  # the most steps in one call of `advance`

# What a seed is used for; evaluation draws from a root of its own (`problem.py`).
START, DATA, MODEL, CODES = 0, 1, 2, 3
FITTED = 8192  # tokens of training length that codebooks are fitted to


class State(NamedTuple):
    """Everything that training passes from one step to the next."""

    params: Any
    optimizer: Any
    step: Array


def build(study: Study, key: Array) -> Any:
    """The study's model, freshly initialised."""
    tunnel = study.tunnel
    shape = Shape(tunnel.features, tunnel.vocabulary, tunnel.outcomes, tunnel.tokens(study.horizon))
    return study.model.build(study.position, shape, key)


def model(study: Study, params: Any) -> Any:
    """The study's model with these parameters."""
    return with_parameters(build(study, stream(study, START)), params)


def start(study: Study) -> State:
    """The state before the first step."""
    params = parameters(build(study, stream(study, START)))
    return State(params, optimizer(study.train).init(params), jnp.zeros((), jnp.int32))


def prepare(study: Study) -> Tables:
    """The tunnel's tables, computed once per study, for `advance`."""
    return study.tunnel.prepare(study.horizon)


def advance(
    study: Study, tables: Tables, state: State, steps: Array, axis: str | None = None
) -> tuple[State, dict[str, Array]]:
    """Take `steps` ≤ CHUNK steps; also return the learning curves, {name: float[CHUNK]}, of every loss term and of
    `kl_bits`, the KL to the exact posterior. They are NaN after the last step.

    An example depends only on (seed, step, its number in the batch), so neither the division of steps into calls nor
    that of a batch over devices changes the data. With `axis`, the batch is split over the devices of that mesh axis
    and the gradients are summed.
    """
    module = build(study, stream(study, START))
    share = study.train.batch // (1 if axis is None else lax.axis_size(axis))
    own = jnp.arange(share) + (0 if axis is None else share * lax.axis_index(axis))
    transformation = optimizer(study.train, axis)

    def total(tree: Any) -> Any:
        return tree if axis is None else lax.psum(tree, axis)

    def step(index: Array, carry: tuple[State, dict[str, Array]]) -> tuple[State, dict[str, Array]]:
        state, curves = carry
        fault = study.monitor.fault
        key, acted = jax.random.fold_in(stream(study, DATA), state.step), None
        if study.train.objective == "reward":
            keys = each_key(key, own)
            module_now = with_parameters(module, state.params)
            batch, acted = experience(study.train, study.tunnel, module_now, keys, study.horizon)
        else:
            batch = examples(study, tables, key, own)
        key_model = jax.random.fold_in(stream(study, MODEL), state.step)

        def directions() -> Any:
            return keys_apart(study, tables, batch, with_parameters(module, state.params), total)

        state = state._replace(params=faults.struck(fault, state.params, state.step, directions))

        def loss(params: Any) -> tuple[Array, dict[str, Sum]]:
            progress = state.step / study.train.steps
            model = with_parameters(module, params)
            losses = measured(study, tables, batch, model, key_model, axis, progress, state.step, acted)
            return combined(study.train, losses, axis), losses

        gradients, losses = jax.grad(loss, has_aux=True)(state.params)
        flat, unravel = ravel_pytree((gradients, losses))  # one vector: a CPU takes far longer for each leaf by itself
        flat = flat if axis is None else lax.psum(flat, axis)
        _, losses = unravel(flat)
        gradients, _ = unravel(flat / losses[first(losses)].weight)
        gradients = faults.spoiled(fault, gradients, state.step)
        updates, memory = transformation.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        curves = jax.tree.map(lambda curve, mean: curve.at[index].set(mean), curves, means(losses))
        return State(params, memory, state.step + 1), curves

    blank = {name: jnp.full(CHUNK, jnp.nan) for name in curve_names(study.train)}
    return lax.fori_loop(0, steps, step, (state, blank))


def measured(
    study: Study,
    tables: Tables,
    batch: Batch,
    module: Any,
    key: Array | None = None,
    axis: str | None = None,
    progress: Array | None = None,
    step: Array | None = None,
    acted: Acted | None = None,
) -> dict[str, Sum]:
    """The terms of the study's loss for a model on a batch of training length; nats. `progress` is the share of
    training that is done, for a model that anneals; `step` the number of steps done, for a fault; `acted` what the
    model did, if the batch is its own rollouts.
    """
    kinds = [kind for term in study.train.terms.values() for kind in term.kinds]
    seen = Collect(*kinds)
    tokens = study.tunnel.scored(study.horizon)
    annealed = {"progress": progress} if study.model.anneals else {}
    tap = seen if kinds else Closed()
    tap = tap if step is None else faults.tap(study.monitor.fault, step, tap)
    logits_BPV = module(batch.inputs, tokens, key=key, tap=tap, **annealed)
    every = jnp.arange(study.horizon)
    log_p_BPV = study.tunnel.log_predictive(tables, batch, every)
    by_domain = any(term.by_domain for term in study.train.terms.values())
    log_domains_BPK = study.tunnel.log_domains(tables, batch, every) if by_domain else None
    log_q_BPV = jax.nn.log_softmax(logits_BPV)
    look = Look(study.tunnel, batch, log_p_BPV, log_q_BPV, seen, axis, tokens, log_domains_BPK, tables, acted)
    return terms(study.train, look)


def keys_apart(study: Study, tables: Tables, batch: Batch, module: Any, total: Any) -> dict[str, Array]:
    """In which direction the mean keys of two domains differ, or of two hypotheses that all sequences share, layer by
    layer: what the fault `merged` takes away.
    """
    seen, tokens = Collect("keys"), study.tunnel.scored(study.horizon)
    module(batch.inputs, tokens, tap=seen)
    log_domains_BPK = study.tunnel.log_domains(tables, batch, jnp.arange(study.horizon))
    frame = study.tunnel.frame(tables, batch)
    if log_domains_BPK is not None:
        weight_BTK = jnp.zeros((*batch.inputs.shape[:2], 2)).at[:, tokens].set(jnp.exp(log_domains_BPK[..., :2]))
    else:
        assert frame is not None  # the door made sure
        weight_BTK = jax.nn.one_hot(frame.label_BT, 2)
    return faults.apart(seen["keys"], weight_BTK, study.model.layers, total)


def finished(study: Study, params: Any) -> Any:
    """The parameters as they are judged: where attention needs codebooks, with these, fitted to the keys and queries of
    sequences of training length that no other stream of the study has.
    """
    inference: Any = study.model.inference
    if not inference.codebook(1, 1):
        return params
    tokens = study.tunnel.tokens(study.horizon)
    batch = examples(study, prepare(study), stream(study, CODES), jnp.arange(max(1, FITTED // tokens)))
    seen = Collect("queries", "keys")
    model(study, params)(batch.inputs, np.arange(tokens), tap=seen)
    layers = dict(params["layers"])
    for name, layer in layers.items():
        depths = range(int(name), len(seen["keys"]), len(layers))  # of all passes through the layer
        q, k = (jnp.concatenate([seen[kind][depth] for depth in depths]) for kind in ("queries", "keys"))
        codebook = fitted(q, k, inference.cells, inference.max_iterations, inference.tolerance)
        layers[name] = {**layer, "attention": {**layer["attention"], "codebook": codebook}}
    return {**params, "layers": layers}


def examples(asked: Study | Problem, tables: Tables, key: Array, numbers: Array) -> Batch:
    """The training examples with these numbers of a step, each drawn from a key of its own."""
    drawn = jax.vmap(lambda key: asked.tunnel.sample(key, tables, 1, asked.horizon))(each_key(key, numbers))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), drawn)


def each_key(key: Array, numbers: Array) -> Array:
    """A key of its own for each number."""
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)


def stream(study: Study, use: int) -> Array:
    """The key of one of the study's independent streams of randomness."""
    return jax.random.fold_in(jax.random.key(study.seed), use)

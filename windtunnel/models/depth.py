"""Adaptive depth: iterate until the predictive of each token settles, at most so often."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from windtunnel.information import kl
from windtunnel.models import Depth
from windtunnel.models.score import Rows
from windtunnel.models.tap import Tap

Iterate = Callable[[Array], Array]  # states [B, T, D] to states one iteration later; causal


@partial(jax.tree_util.register_dataclass, data_fields=["used_BP", "residual_BP", "settled_BP"], meta_fields=[])
@dataclass(frozen=True)
class Iterations:
    """Of each token that is asked for: the iterations it took, the KL (bits) between the predictives of its last two,
    and whether that is below the tolerance, so that it stopped because it had settled and not at the limit.
    """

    used_BP: Array
    residual_BP: Array
    settled_BP: Array

    def at(self, tokens: Rows) -> "Iterations":
        return jax.tree.map(lambda leaf: leaf[:, tokens], self)

    def show(self, tap: Tap, readings: list[Any] | None) -> None:
        """Show a tap the `iterations` used, and append all of it to the `readings`."""
        tap(0, "iterations", self.used_BP)
        if readings is not None:
            readings.append(self)


class Running(NamedTuple):
    count: Array
    state_BTD: Array
    log_q_BTV: Array
    stopped_BT: Array
    iterations: Iterations


def settle(iterate: Iterate, predict: Callable[[Array], Array], start_BTD: Array, depth: Depth) -> Any:
    """(states, `Iterations` of all tokens). `predict` are the logits of states.

    A token stops when it has settled, KL(q_n ‖ q_{n−1}) < tolerance, and every earlier token of its sequence has
    stopped; its state is then frozen, and later tokens read it so. So neither later tokens nor other sequences of the
    batch change anything: they only make it wait. What is no number stops too, as not settled: nobody waits for it.
    """
    batch, length, _ = start_BTD.shape

    def goes_on(now: Running) -> Array:
        return (now.count < depth.max_iterations) & ~jnp.all(now.stopped_BT)

    def once(now: Running) -> Running:
        def unless_stopped(new: Array, old: Array) -> Array:
            stopped = now.stopped_BT.reshape(batch, length, *[1] * (new.ndim - 2))
            return jnp.where(stopped, old, new)

        state_BTD = unless_stopped(iterate(now.state_BTD), now.state_BTD)
        log_q_BTV = unless_stopped(jax.nn.log_softmax(predict(state_BTD)), now.log_q_BTV)
        bits_BT = jnp.maximum(kl(log_q_BTV, now.log_q_BTV), 0.0) / np.log(2)
        bits_BT = jnp.where(now.count == 0, jnp.inf, bits_BT)  # a first predictive has none before it
        bits_BT = jnp.where(jnp.isnan(log_q_BTV).any(axis=-1), jnp.nan, bits_BT)  # of which `kl` would make 0
        settled_BT = bits_BT < depth.tolerance
        done_BT = now.stopped_BT | settled_BT | jnp.isnan(bits_BT)
        latest = Iterations(jnp.full((batch, length), now.count + 1), bits_BT, settled_BT)
        return Running(
            now.count + 1,
            state_BTD,
            log_q_BTV,
            lax.cummin(done_BT.astype(jnp.int32), axis=1) > 0,
            jax.tree.map(unless_stopped, latest, now.iterations),
        )

    none_BT = jnp.zeros((batch, length), bool)
    nothing = Iterations(jnp.zeros((batch, length), jnp.int32), jnp.full((batch, length), jnp.inf), none_BT)
    log_q_BTV = jax.nn.log_softmax(predict(start_BTD))
    end = lax.while_loop(goes_on, once, Running(jnp.int32(0), start_BTD, log_q_BTV, none_BT, nothing))
    return end.state_BTD, end.iterations


def unrolled(iterate: Iterate, start_BTD: Array, tokens: Rows, loops: int, key: Array) -> Array:
    """[B, P, D]: the states at `tokens` in training, each after a number of iterations drawn from 1 … `loops`.

    So every number is supervised, at a random share of the places: a model whose predictive does not stay where it is
    right pays for it. All examples of a batch share the draw, so that it does not matter how devices share the batch.
    """
    number_P = jax.random.randint(key, (len(tokens),), 1, loops + 1)

    def step(states: tuple[Array, Array], number: Array) -> tuple[tuple[Array, Array], None]:
        state_BTD = iterate(states[0])
        return (state_BTD, jnp.where((number_P == number)[None, :, None], state_BTD[:, tokens], states[1])), None

    start = start_BTD, start_BTD[:, tokens]
    (_, chosen_BPD), _ = lax.scan(step, start, jnp.arange(1, loops + 1))
    return chosen_BPD

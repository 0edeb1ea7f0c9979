"""`shuffle` (transport): follow objects that change places, from swaps that may fail and a rare, unreliable look.

In the shapes of this file, K is the places (and the objects), H the K! arrangements, W the possible swaps.
"""

import itertools
import math
from functools import cache
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array
from pydantic import Field

from windtunnel.spec import Knob, Noise, spec
from windtunnel.tunnels.answers import Frame
from windtunnel.tunnels.base import Batch, Tunnel, uniform, uniform_log_predictive

Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), Knob]


@spec
class Shuffle(Tunnel):
    """K objects lie in K places, in an arrangement π that is uniform at first: π(i) is the object in place i. A token
    is a look, at rate ρ, or else a swap. A look names a place, drawn uniformly, and the object there, or with
    probability ε one of the others. A swap names two places, drawn uniformly, whose objects change places with
    probability 1 − ε, or else nothing happens. Predict the object in place 0 after each token. The filter over the K!
    arrangements is exact: a swap (i, j) is a gather, a look (i, v) a reweighting,

        b'(π) = (1−ε) b(π ∘ (i j)) + ε b(π),        b'(π) ∝ b(π) (1−ε if π(i) = v, else ε/(K−1)).

    Swaps keep the uniform distribution, so a reasoner that saw nothing before its window starts from it, and beliefs
    are stationary: ρ and ε say how far back they reach. How many swaps must be composed for an answer is the depth.

    The start is the token 0, then come K(K−1)/2 swaps, (0 1), (0 2), …, (1 2), …, and K² looks (place, object), place
    by place. With K = 3 and ε = 0.1, after a look at place 1 that names 2, object 2 lies there with probability 0.9 and
    in place 0 with 0.05; after the swap (0 1) it is in place 0 with 0.9 · 0.9 + 0.1 · 0.05 = 0.815.
    """

    name: Literal["shuffle"] = "shuffle"
    objects: Annotated[int, Field(ge=2, le=6)] = 4
    noise: Noise = 0.02
    looks: Rate = 0.3

    hypothesis = "arrangement"
    recursive = True
    size = "objects"
    count = staticmethod(math.factorial)

    @property
    def outcomes(self) -> int:
        return self.objects

    @property
    def vocabulary(self) -> int:
        return 1 + len(swaps(self.objects)) + self.objects**2

    @property
    def start(self) -> int:
        return 0

    @property
    def header(self) -> int:
        return 1

    def tokens(self, observations: int) -> int:
        return 1 + observations

    def scored(self, observations: int) -> np.ndarray:
        return 1 + np.arange(observations)

    def sample(self, key: Array, tables: tuple[()], batch: int, observations: int) -> Batch:
        K, pair_W2 = self.objects, jnp.asarray(swaps(self.objects))
        key_start, key_walk = jax.random.split(key)
        level_TB4 = jnp.moveaxis(uniform(key_walk, (batch, observations, 4)), 1, 0)
        arrangement_HK = jnp.asarray(arrangements(K))
        first_BK = arrangement_HK[jax.random.randint(key_start, (batch,), 0, len(arrangement_HK), jnp.int32)]

        def step(now_BK: Array, level_B4: Array) -> tuple[Array, tuple[Array, Array]]:
            look_B, wrong_B = level_B4[:, 0] < self.looks, level_B4[:, 1] < self.noise
            swap_B, place_B = ((level_B4[:, 2] * n).astype(jnp.int32) for n in (len(pair_W2), K))
            other_B = 1 + (level_B4[:, 3] * (K - 1)).astype(jnp.int32)
            i_B1, j_B1 = jnp.split(pair_W2[swap_B], 2, axis=1)
            place_1K = jnp.arange(K)[None]
            from_BK = jnp.where(place_1K == i_B1, j_B1, jnp.where(place_1K == j_B1, i_B1, place_1K))
            swapped_BK = jnp.take_along_axis(now_BK, from_BK, axis=1)
            object_B = jnp.take_along_axis(now_BK, place_B[:, None], axis=1)[:, 0]
            object_B = jnp.where(wrong_B, (object_B + other_B) % K, object_B)
            token_B = 1 + jnp.where(look_B, len(pair_W2) + place_B * K + object_B, swap_B)
            now_BK = jnp.where((look_B | wrong_B)[:, None], now_BK, swapped_BK)
            return now_BK, (token_B, now_BK[:, 0])

        _, (token_TB, object_TB) = lax.scan(step, first_BK, level_TB4)
        inputs = jnp.pad(token_TB.T, ((0, 0), (1, 0)))
        return Batch(inputs.astype(jnp.int32), object_TB.T.astype(jnp.int32), jnp.ones(object_TB.T.shape))

    def words(self, inputs: np.ndarray) -> list[str]:
        """`0↔2`: a swap; `1: 4`: object 4 is seen in place 1."""
        names = ["start", *(f"{i}↔{j}" for i, j in swaps(self.objects))]
        names += [f"{place}: {seen}" for place in range(self.objects) for seen in range(self.objects)]
        return [names[token] for token in inputs]

    def _advance(self, log_belief_BPH: Array, token_BP: Array) -> Array:
        """The belief after a token. What belief was in an arrangement is in the swapped one now, if the swap was done;
        a look weighs arrangements. Each token has a row of either table, which changes nothing where it is the other.
        """
        from_VH, agrees_VH = map(jnp.asarray, rules(self.objects))
        look_BP1 = (token_BP > len(swaps(self.objects)))[..., None]
        log_moved_BPH = jnp.take_along_axis(log_belief_BPH, from_VH[token_BP], axis=-1)
        log_done, log_not = jnp.log1p(-self.noise), jnp.log(self.noise)
        log_swapped_BPH = jnp.logaddexp(log_moved_BPH + log_done, log_belief_BPH + log_not)
        log_wrong = log_not - math.log(self.objects - 1)
        log_seen_BPH = log_belief_BPH + jnp.where(agrees_VH[token_BP], log_done, log_wrong)
        return jax.nn.log_softmax(jnp.where(look_BP1, log_seen_BPH, log_swapped_BPH), axis=-1)

    def _uniform(self, batch: Batch, positions: int) -> Array:
        arrangement_H = len(arrangements(self.objects))
        return jnp.full((len(batch.inputs), positions, arrangement_H), -math.log(arrangement_H))

    def log_posterior(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        """[B, P, H]: over the arrangements, in lexicographic order."""

        def step(log_belief_B1H: Array, token_B: Array) -> tuple[Array, Array]:
            log_belief_B1H = self._advance(log_belief_B1H, token_B[:, None])
            return log_belief_B1H, log_belief_B1H[:, 0]

        _, log_belief_TBH = lax.scan(step, self._uniform(batch, 1), batch.inputs[:, 1:].T)
        return jnp.moveaxis(log_belief_TBH, 0, 1)[:, at]

    def _predict(self, log_belief_BPH: Array) -> Array:
        """[B, P, K]: of the object in place 0."""
        # In lexicographic order the arrangements with the same object in place 0 stand together.
        by_object_BPKh = log_belief_BPH.reshape(*log_belief_BPH.shape[:2], self.objects, -1)
        return jax.nn.logsumexp(by_object_BPKh, axis=-1)

    def log_predictive(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        return self._predict(self.log_posterior(tables, batch, at))

    def log_mixture(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        object_HK = jax.nn.one_hot(arrangements(self.objects)[:, 0], self.objects)
        log_belief_BPH = self.log_posterior(tables, batch, at)
        return jax.nn.logsumexp(log_belief_BPH[..., None] + jnp.log(object_HK)[None, None], axis=2)

    def frame(self, tables: tuple[()], batch: Batch) -> Frame:
        """Each token is labelled with the likeliest object in place 0: the first of them where some are equally likely,
        which rounding would decide otherwise.
        """
        log_p_BTK = self.log_predictive(tables, batch, jnp.arange(batch.inputs.shape[1] - 1))
        object_BT = jnp.argmax(log_p_BTK > jnp.max(log_p_BTK, axis=-1, keepdims=True) - 1e-3, axis=-1)
        return Frame("objects in place 0", jnp.pad(object_BT, ((0, 0), (1, 0)), constant_values=-1), self.objects)

    def log_last(self, tables: tuple[()], batch: Batch, at: Array, window: int) -> Array:
        """Exact: whatever came before the window, the arrangement at its start is uniform."""
        if window == 0:
            return uniform_log_predictive(len(batch.inputs), at, self.objects)

        def step(i: Array, log_belief_BPH: Array) -> Array:
            time_P = at - window + 1 + i
            log_next_BPH = self._advance(log_belief_BPH, batch.inputs[:, 1 + jnp.maximum(time_P, 0)])
            return jnp.where((time_P >= 0)[None, :, None], log_next_BPH, log_belief_BPH)

        return self._predict(lax.fori_loop(0, window, step, self._uniform(batch, len(at))))


def swaps(objects: int) -> list[tuple[int, int]]:
    return list(itertools.combinations(range(objects), 2))


@cache
def arrangements(objects: int) -> np.ndarray:
    """int[H, K]: the object in each place, in lexicographic order."""
    return np.array(list(itertools.permutations(range(objects))), np.int32)


@cache
def rules(objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every token: int[V, H], the arrangement from which its swap leads to each; bool[V, H], those with which its
    look agrees.
    """
    every = arrangements(objects)
    number = {tuple(arrangement): index for index, arrangement in enumerate(every.tolist())}
    itself = np.arange(len(every))
    sources = [itself]
    for i, j in swaps(objects):
        swapped = every.copy()
        swapped[:, [i, j]] = every[:, [j, i]]
        sources.append(np.array([number[tuple(arrangement)] for arrangement in swapped.tolist()]))
    looks = [every[:, place] == seen for place in range(objects) for seen in range(objects)]
    blind = [np.ones(len(every), bool)] * len(sources)
    return np.array(sources + [itself] * len(looks), np.int32), np.array(blind + looks)

"""What instruments can ask of a tunnel beside its posterior: which hypotheses its tokens represent, and how fast
beliefs converge. Instruments call the tunnel's methods (`Tunnel.token_weights`, `frame`, `law`, …) and never check its
type.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

SETTLED, UNSETTLED = 3.0, 0.5  # n × Chernoff information from which on hypotheses are distinguished; up to which not


@partial(jax.tree_util.register_dataclass, data_fields=["label_BT", "codes_BTd"], meta_fields=["what", "count", "own"])
@dataclass(frozen=True)
class Frame:
    """The hypotheses that keys should distinguish. `label_BT` is the hypothesis of each token, one of `count`; −1 where
    a token represents none. With `own`, every sequence has hypotheses of its own (its stored pairs); otherwise they are
    the same in all sequences, and each has many tokens. `codes_BTd` are vectors that the data give to hypotheses, if
    any.
    """

    what: str
    label_BT: Array | np.ndarray
    count: int
    own: bool = False
    codes_BTd: Array | None = None


class Law(NamedTuple):
    """How fast exact inference converges. `rate` is the theoretical rate of the law, `least` what it is at least, where
    that is known apart from it. `kind`:

    `few`: hypotheses are few and far apart. The excess of the predictive's entropy over its limit falls as e^{−nC}, up
    to powers of n, where C is the Chernoff information (nats per observation) between the two closest hypotheses.
    `smooth`: a smooth family of d parameters (or a grid too fine to be resolved). The excess is d/(2n) nats; the rate
    is d.
    `crossover`: between the two, at these lengths. The rate is C, but the excess need not follow it.
    `count`: outcomes are equally likely, so H = log₂(their number), and entropy against that has slope 1.
    `forgetting`: the influence of a symbol w observations back, as KL, falls as e^{−γw}. γ is twice the gap of the
    filter's Lyapunov exponents, since KL is quadratic in the remaining difference of beliefs; γ ≥ 2 ln(1/|λ₂|), λ₂ the
    second eigenvalue of the transition matrix, since evidence can only reduce that difference further.
    """

    kind: str
    rate: float
    unit: str
    least: float | None = None


def symbols(inputs: Array, count: int) -> Frame:
    """Each symbol is a hypothesis; tokens from `count` on (starts and marks) represent none."""
    return Frame("symbols", jnp.where(inputs < count, inputs, -1), count)


def evenly(counts_BPT: Array) -> Array:
    """Equal log-weights where `counts_BPT` is true; a row of −∞ where it is true nowhere."""
    total_BP1 = jnp.sum(counts_BPT, axis=-1, keepdims=True)
    return jnp.where(counts_BPT, -jnp.log(jnp.maximum(total_BP1, 1).astype(float)), -jnp.inf)


def chernoff(p_V: np.ndarray, q_V: np.ndarray) -> float:
    """C = −min_{0≤λ≤1} ln Σ_v p_v^λ q_v^{1−λ}, nats."""
    from scipy.optimize import minimize_scalar

    optimum = minimize_scalar(
        lambda x: math.log(np.sum(p_V**x * q_V ** (1 - x))), bounds=(0, 1), method="bounded", options={"xatol": 1e-9}
    )
    return -float(optimum.fun)


def binary_entropy_bits(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-300, 1 - 1e-16)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))

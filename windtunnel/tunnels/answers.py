"""What a tunnel can say of itself to instruments, beside its posterior: which hypotheses its tokens stand for, and how
fast beliefs converge. Instruments ask the tunnel (`Tunnel.token_weights`, `frame`, `law`, …), never its type.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

SETTLED, UNSETTLED = 3.0, 0.5  # n × Chernoff information from which on few hypotheses are told apart; up to which not


@partial(jax.tree_util.register_dataclass, data_fields=["label_BT", "codes_BTd"], meta_fields=["what", "count", "own"])
@dataclass(frozen=True)
class Frame:
    """The hypotheses that keys should tell apart. `label_BT` is the hypothesis of each token, one of `count`, −1 where
    it stands for none. With `own`, hypotheses belong to a sequence (its stored pairs); else they are the same in all,
    and each has many tokens. `codes_BTd` are the directions that the data themselves give to hypotheses, where they do.
    """

    what: str
    label_BT: Array | np.ndarray
    count: int
    own: bool = False
    codes_BTd: Array | None = None


class Law(NamedTuple):
    """How fast exact inference converges. `rate` is what theory says. `kind`:

    `few`: hypotheses are few and far apart. The excess of the predictive's entropy over its limit is e^{−nC} but for
    powers of n, C the Chernoff information (nats an observation) between the closest two that are possible.
    `smooth`: a smooth family of d parameters (or a grid too fine to be told apart). The excess is d/(2n) nats: `rate`
    is d.
    `crossover`: between the two, at these lengths; C is given and nothing is expected.
    `count`: equally likely outcomes are counted: H = log₂(their number), so entropy on that has slope 1.
    `forgetting`: what came w observations before matters e^{−γw}: γ ≥ 2 ln(1/|λ₂|) nats an observation, λ₂ the second
    eigenvalue of the transition matrix: KL is quadratic in what is left, and evidence only adds to forgetting.
    """

    kind: str
    rate: float
    unit: str


def symbols(inputs: Array, count: int) -> Frame:
    """Each symbol is a hypothesis; marks are none."""
    return Frame("symbols", jnp.where(inputs < count, inputs, -1), count)


def evenly(counts_BPT: Array) -> Array:
    """Log-weights that are alike where `counts_BPT` is true; a row of −∞ where it nowhere is."""
    total_BP1 = jnp.sum(counts_BPT, axis=-1, keepdims=True)
    return jnp.where(counts_BPT, -jnp.log(jnp.maximum(total_BP1, 1).astype(float)), -jnp.inf)


def chernoff(p_V: np.ndarray, q_V: np.ndarray) -> float:
    """C = −min_{0≤λ≤1} ln Σ_v p_v^λ q_v^{1−λ}, nats."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda x: math.log(np.sum(p_V**x * q_V ** (1 - x))), bounds=(0, 1), method="bounded", options={"xatol": 1e-9}
    )
    return -float(found.fun)


def binary_entropy_bits(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-300, 1 - 1e-16)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))

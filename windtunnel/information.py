"""Entropies and divergences of discrete distributions, from log-probabilities over the last axis. Each formula once.

`kl` takes numpy or JAX arrays and returns nats. The functions in bits are plain numpy, computed in float64.
"""

import math
from typing import Any

import numpy as np


def kl(log_p: Any, log_q: Any) -> Any:
    """KL(p ‖ q) = Σ_v p_v (log p_v − log q_v), nats. Outcomes with p = 0 add nothing, whatever q says of them."""
    xp = log_p.__array_namespace__()
    p = xp.exp(log_p)
    possible = p > 0
    return xp.sum(xp.where(possible, p * (xp.where(possible, log_p, 0) - log_q), 0), axis=-1)


def kl_bits(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """KL(p ‖ q) in bits; infinite where q excludes what p allows."""
    with np.errstate(invalid="ignore"):
        return kl(log_p.astype(np.float64), log_q.astype(np.float64)) / math.log(2)


def js_bits(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """The Jensen–Shannon divergence ½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q)/2: at most one bit."""
    with np.errstate(invalid="ignore"):  # of what is no number
        log_m = np.logaddexp(log_p.astype(np.float64), log_q.astype(np.float64)) - math.log(2)
    return (kl_bits(log_p, log_m) + kl_bits(log_q, log_m)) / 2


def entropy_bits(log_p: np.ndarray) -> np.ndarray:
    """H(p) = −Σ_v p_v log₂ p_v."""
    log_p = log_p.astype(np.float64)
    return -np.where(log_p > -np.inf, np.exp(log_p) * np.maximum(log_p, -1e30), 0.0).sum(axis=-1) / math.log(2)


def total_variation(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """½ Σ_v |p_v − q_v|."""
    return np.abs(np.exp(log_p.astype(np.float64)) - np.exp(log_q.astype(np.float64))).sum(axis=-1) / 2


def spread_bits(log_q_RBV: np.ndarray) -> np.ndarray:
    """[R, B]: KL of each of R predictions of the same to their mean."""
    log_mean_BV = np.logaddexp.reduce(log_q_RBV.astype(np.float64), axis=0) - np.log(len(log_q_RBV))
    return kl_bits(log_q_RBV, np.broadcast_to(log_mean_BV, log_q_RBV.shape))


def drift_bits(log_now_BV: np.ndarray, log_then_VBV: np.ndarray) -> np.ndarray:
    """[B]: KL(q_t ‖ Σ_x q_t(x) q_{t+1}(· | x)), `then` given each outcome x: 0 where predictions are a martingale."""
    now_BV, then_VBV = log_now_BV.astype(np.float64), log_then_VBV.astype(np.float64)
    return kl_bits(now_BV, np.logaddexp.reduce(now_BV.T[:, :, None] + then_VBV, axis=0))

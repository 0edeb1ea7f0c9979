"""Decay curves: how KL grows with length, as the best of a few laws, and where it crosses a tolerance."""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from windtunnel.instruments.base import Json


class Family(NamedTuple):
    """`function`: ln KL of x = length ÷ horizon and parameters θ. `start`: the initial θ of a fit. `crossing`: the x at
    which the function has a given value.
    """

    function: Callable[..., np.ndarray]
    start: Callable[[np.ndarray, np.ndarray], list[float]]
    crossing: Callable[[float, np.ndarray], float]


def _logistic(x: np.ndarray, low: float, rise: float, middle: float, steep: float) -> np.ndarray:
    return low + np.exp(rise) / (1 + np.exp(-np.exp(steep) * (np.log(x) - middle)))


def _logistic_crossing(y: float, theta: np.ndarray) -> float:
    low, rise, middle, steep = theta
    share = (y - low) / math.exp(rise)
    if share <= 0:
        return 0.0
    return math.exp(middle + math.log(share / (1 - share)) / math.exp(steep)) if share < 1 else math.inf


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


FAMILIES = {
    "constant": Family(lambda x, a: a + 0 * x, lambda x, y: [y.mean()],
                       lambda y, t: math.inf if y > t[0] else 0.0),
    "power": Family(lambda x, a, b: a + b * np.log(x), lambda x, y: [y[0], 1.0],
                    lambda y, t: _exp((y - t[0]) / t[1]) if t[1] > 0 else math.inf),
    "exponential": Family(lambda x, a, b: a + b * x, lambda x, y: [y[0], (y[-1] - y[0]) / (x[-1] - x[0])],
                          lambda y, t: max((y - t[0]) / t[1], 0.0) if t[1] > 0 else math.inf),
    "logistic": Family(_logistic, lambda x, y: [y.min(), math.log(max(np.ptp(y), 1e-3)), np.log(x).mean(), 0.5],
                       _logistic_crossing),
}  # fmt: skip


def fit(x: np.ndarray, kl_bits: np.ndarray, error: np.ndarray, tolerance: float) -> Json:
    """Fit every family to ln KL by weighted least squares and choose one by AIC (corrected for few bins); then compute
    the length, in horizons, at which the chosen family crosses the tolerance, with an interval.

        constant: KL = e^a;  power: e^a x^b;  exponential: e^(a + bx);
        logistic in log length: ln KL = low + e^rise / (1 + e^(−e^steep (ln x − middle))).

    `constant` is the null: no decay. Weights are 1/σ², where σ is the standard error of ln KL, at least 5 %, rescaled
    to the residuals. A crossing beyond the evaluated lengths is an extrapolation, and `inside` is false. Its interval
    uses the delta method on the logarithm and assumes that the chosen family is true. Of two families that fit almost
    equally well, AIC may choose the one with more parameters.
    """
    from scipy.optimize import OptimizeWarning, curve_fit

    use = (kl_bits > 0) & np.isfinite(kl_bits)
    x, y = x[use], np.log(kl_bits[use])
    sigma = np.maximum(error[use] / kl_bits[use], 0.05)
    tried: dict[str, Json] = {}
    for name, family in FAMILIES.items():
        start = family.start(x, y)
        n, k = len(x), len(start) + 1  # one more parameter: the scale of the residuals
        if n < k + 2:
            continue
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore", OptimizeWarning)
                theta, covariance = curve_fit(family.function, x, y, start, sigma=sigma, maxfev=2_000)[:2]
        except RuntimeError:  # it did not converge
            continue
        rss = float(np.sum(((y - family.function(x, *theta)) / sigma) ** 2))
        aic = n * math.log(max(rss, 1e-12) / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1)
        tried[name] = {"theta": theta, "covariance": covariance, "aic": aic}
    if not tried:
        return {"family": None}
    best = min(tried, key=lambda name: tried[name]["aic"])
    theta, covariance = tried[best]["theta"], tried[best]["covariance"]
    crossing = FAMILIES[best].crossing
    where = crossing(math.log(tolerance), theta)
    spread = log_error(lambda of: crossing(math.log(tolerance), of), theta, covariance)
    return {
        "family": best,
        "theta": theta,
        "theta_se": np.sqrt(np.diag(covariance)),
        "aic": {name: attempt["aic"] - tried[best]["aic"] for name, attempt in tried.items()},
        "critical": where,
        "critical_low": where * math.exp(-1.96 * spread),
        "critical_high": where * math.exp(1.96 * spread),
        "inside": bool(x[0] <= where <= x[-1]),
    }


def log_error(crossing: Callable[[np.ndarray], float], theta: np.ndarray, covariance: np.ndarray) -> float:
    """√(gᵀ C g), the standard error of ln crossing(θ), with g its gradient by central differences; 0 if not defined."""
    if not (np.isfinite(covariance).all() and 0 < crossing(theta) < math.inf):
        return 0.0
    step = 1e-5 * np.maximum(np.abs(theta), 1e-3)
    ends = [(crossing(theta + way), crossing(theta - way)) for way in np.diag(step)]
    if not all(0 < end < math.inf for pair in ends for end in pair):
        return 0.0
    gradient = np.asarray([math.log(up / down) for up, down in ends]) / (2 * step)
    return float(np.sqrt(max(gradient @ covariance @ gradient, 0.0)))

"""Prior recovery: which positional prior did a head learn, compared with the prior of the data?

Where a tunnel's hypotheses are lags d with a prior π (`Tunnel.lag_prior`), the exact log-posterior is log-likelihood +
log π(d), and the score of a head with an additive positional prior is content + b(d). The head *is* the posterior where
b = log π up to a constant, which a softmax ignores. So b is normalised over the lags and compared with π.

For two reasons b and log π may differ although predictions are good. First, heads and layers may share the work: only a
model with one head has one prior to identify. Second, temperature: a head whose score is c × the log-posterior attends
more (c > 1) or less sharply than it should, and later layers can correct much of that. Then b = c log π, so β is the
same, the scale is c^(−1/β) times the true one, and the KL is not zero. So `kl_bits` is reported together with
`kl_bits_tempered`, the KL at the best temperature, and `sharpness`, the c of that temperature. (A scalable softmax is
also such a factor, one for each query; b is the positional prior before it.)
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel.config import Study
from windtunnel.information import kl_bits
from windtunnel.models.parameters import learned_prior
from windtunnel.models.position import Position, per_layer
from windtunnel.spec import arrays

Numbers = dict[str, float | None]

RECOVERED = ("scale", "beta", "sharpness", "kl_bits", "kl_bits_tempered")  # the numbers reported for the best head
BETAS = np.geomspace(0.05, 20, 400)  # the grid on which the fit searches for β, before it refines the best value
SHARPNESS = np.geomspace(1e-3, 1e3, 400)


def recovery(study: Study, params: Any) -> dict[str, Any]:
    """`recovery`, a row for every layer and head with an additive prior, and `recovered_…`, the numbers of the head
    with the smallest KL. Empty if the tunnel has no prior over lags or the model no additive prior.

    The fit and the KL are over the lags within the horizon, which occur in training; `kl_bits_reach` is over the lags
    of the evaluated length.
    """
    prior, known = study.tunnel.lag_prior, over_lags(study, params)
    if prior is None or known is None:
        return {}
    log_prior_T, layers = known
    rows = []
    for layer, bias_NT in enumerate(layers):
        for head, bias_T in enumerate(bias_NT):
            numbers = compared(log_prior_T[: study.horizon], bias_T[: study.horizon])
            numbers["kl_bits_reach"] = prior_kl_bits(log_prior_T, bias_T)
            numbers |= {"true_scale": prior.scale, "true_beta": prior.beta}
            rows.append({"layer": layer, "head": head, **{name: _finite(value) for name, value in numbers.items()}})
    if not rows:
        return {}
    best = min(rows, key=lambda row: math.inf if row["kl_bits"] is None else row["kl_bits"])
    return {"recovery": rows, **{f"recovered_{name}": best[name] for name in RECOVERED}}


def over_lags(study: Study, params: Any) -> tuple[np.ndarray, list[np.ndarray]] | None:
    """The log-density of the data's prior over lags [T], and the `biases` of every layer [N, T]; None if the data have
    no such prior, or the model has no positions.
    """
    if study.tunnel.lag_prior is None or study.position is None:
        return None
    learned = [learned_prior(params, layer) for layer in range(study.model.layers)]
    log_prior_T, layers = _over_lags(arrays(study), learned)
    return np.asarray(log_prior_T, np.float64), [np.asarray(bias_NT, np.float64) for bias_NT in layers]


@jax.jit
def _over_lags(study: Study, learned: list[Any]) -> tuple[Array, list[Array]]:
    """One program, where an operation at a time would compile dozens."""
    assert study.tunnel.lag_prior is not None and study.position is not None
    log_prior_T = study.tunnel.lag_prior.log_density(jnp.arange(study.problem.length, dtype=float))
    positions = per_layer(study.position, study.model.layers)
    return log_prior_T, [biases(study, *of) for of in zip(positions, learned, strict=True)]


def biases(study: Study, position: Position, learned: Any) -> Array:
    """[N, T]: what each head adds to the score at lag 0, 1, 2 …, seen from the last evaluated observation; [0, T] if
    the position adds nothing.
    """
    tokens = study.tunnel.scored(study.problem.length)
    where = position.positions(None, study.tunnel.tokens(study.problem.length))[tokens]
    bias = position.bias(learned, study.model.heads, where[-1:], where)
    if bias is None:
        return jnp.zeros((0, len(tokens)))
    return jnp.broadcast_to(bias[:, 0, ::-1], (study.model.heads, len(tokens)))


def compared(log_prior_T: np.ndarray, bias_T: np.ndarray) -> Numbers:
    """One head's prior compared with the true one; both are log-densities (nats) over lags, up to a constant."""
    numbers: Numbers = {**fit(log_prior_T, bias_T), "kl_bits": prior_kl_bits(log_prior_T, bias_T)}
    sharpness = minimum(lambda c: prior_kl_bits(log_prior_T, bias_T / c), SHARPNESS)
    return numbers | {"kl_bits_tempered": prior_kl_bits(log_prior_T, bias_T / sharpness), "sharpness": sharpness}


def prior_kl_bits(log_prior_T: np.ndarray, bias_T: np.ndarray) -> float:
    """KL(π ‖ softmax b) = Σ_d π(d) (log₂ π(d) − log₂ softmax(b)(d))."""
    return float(kl_bits(normalised(log_prior_T), normalised(bias_T)))


def fit(log_prior_T: np.ndarray, bias_T: np.ndarray) -> Numbers:
    """The generalized Gaussian nearest to b: scale α and β minimise Σ_d π(d) (b(d) − a + (d/α)^β)² with a free.

    The weight of each lag is its probability π(d), so that a tail that training hardly ever saw has little influence.
    For a given β this is linear regression on d^β with slope −α^(−β), so only β is searched for. `misfit_bits` is the
    root of the minimum. Scale and β are None where b does not fall with distance, for example where it is flat.
    """
    weight_T = np.exp(normalised(log_prior_T))
    lag_T = np.arange(len(bias_T), dtype=float)

    def centred(values_T: np.ndarray) -> np.ndarray:
        return values_T - weight_T @ values_T

    def slope(beta: float) -> float:
        power_T = centred(lag_T**beta)
        return float(-(weight_T * power_T) @ centred(bias_T) / (weight_T @ power_T**2))

    def misfit(beta: float) -> float:
        return float(weight_T @ (centred(bias_T) + max(slope(beta), 0.0) * centred(lag_T**beta)) ** 2)

    beta = minimum(misfit, BETAS)
    falls = slope(beta) > 0
    return {
        "scale": slope(beta) ** (-1 / beta) if falls else None,
        "beta": beta if falls else None,
        "misfit_bits": math.sqrt(misfit(beta)) / math.log(2),
    }


def minimum(function: Any, grid: np.ndarray) -> float:
    """The minimiser of a function of a positive number: the best of the grid, refined between its neighbours."""
    from scipy.optimize import minimize_scalar

    best = int(np.argmin([function(point) for point in grid]))
    bounds = tuple(np.log(grid[[max(best - 1, 0), min(best + 1, len(grid) - 1)]]))
    optimum = minimize_scalar(
        lambda x: function(math.exp(x)), bounds=bounds, method="bounded", options={"xatol": 1e-10}
    )
    return math.exp(optimum.x)


def normalised(log_T: np.ndarray) -> np.ndarray:
    """Log-probabilities that are proportional to exp(log_T)."""
    top = log_T.max()
    return log_T - top - np.log(np.exp(log_T - top).sum())


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

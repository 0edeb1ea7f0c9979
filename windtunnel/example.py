"""One short sequence that training has not seen, written out: what exact inference says of it, what the model says, and
where it looks. For people; no number of the verdict rests on it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windtunnel.config import Study
from windtunnel.models.parameters import learned_prior
from windtunnel.models.position import per_layer
from windtunnel.models.tap import Collect
from windtunnel.recovery import biases, normalised
from windtunnel.spec import arrays
from windtunnel.train import model

OBSERVATIONS = 16  # at most: as many as can be read
LAGS = 64  # of the curves of priors, spaced evenly in their logarithm


def example(study: Study, params: Any) -> dict[str, np.ndarray]:
    """What `example.npz` holds; T tokens, P observations, L layers of N heads.

    `words` [T] for people, `at` [P] the tokens at which predictions are made, `outcome` [P]; `predictive_exact` and
    `predictive` [P, V], probabilities; `posterior` [P, T], where the hypotheses are tokens; `attention` [L, N, P, T],
    where there is any. And the priors over lags (`lag_curves`), where the data have one.
    """
    inputs, outcome, shown = jax.tree.map(np.asarray, _look(arrays(study), params))
    return {
        "words": np.asarray(study.tunnel.words(inputs)),
        "at": study.tunnel.scored(len(outcome)),
        "outcome": outcome,
        **{name: value.astype(np.float16) for name, value in shown.items()},
        **lag_curves(study, params),
    }


@jax.jit
def _look(study: Study, params: Any) -> Any:
    tunnel, observations = study.tunnel, min(study.horizon, OBSERVATIONS)
    tables = tunnel.prepare(observations)
    batch = tunnel.sample(study.problem.key, tables, 1, observations)
    every, seen = jnp.arange(observations), Collect("attention")
    logits_PV = model(study, params)(batch.inputs, tunnel.scored(observations), tap=seen)[0]
    shown = {
        "predictive_exact": jnp.exp(tunnel.log_predictive(tables, batch, every)[0]),
        "predictive": jax.nn.softmax(logits_PV),
    }
    if tunnel.lag_prior is not None:
        shown["posterior"] = jnp.exp(tunnel.log_posterior(tables, batch, every)[0])
    if seen.seen:
        shown["attention"] = jnp.stack([attention_BNPT[0] for attention_BNPT in seen["attention"].values()])
    return batch.inputs[0], batch.outcome_BP[0], shown


def lag_curves(study: Study, params: Any) -> dict[str, np.ndarray]:
    """`lag` [G], `prior_bits` [G] and `position_bits` [L, N, G]: log₂ of the data's prior over lags and of every head's
    positional prior, both normalised over the lags of the horizon. Nothing where there is none of either.
    """
    prior = study.tunnel.lag_prior
    if prior is None or study.position is None:
        return {}
    layers = [
        biases(study, position, learned_prior(params, layer))
        for layer, position in enumerate(per_layer(study.position, study.model.layers))
    ]
    if not all(len(bias_NT) for bias_NT in layers):
        return {}
    lag = np.unique(np.geomspace(1, study.problem.length, LAGS).round().astype(int)) - 1
    log_prior_T = np.asarray(prior.log_density(jnp.arange(study.problem.length, dtype=float)), np.float64)
    heads = np.asarray([[_bits(bias_T, study.horizon)[lag] for bias_T in bias_NT] for bias_NT in layers])
    return {"lag": lag, "prior_bits": _bits(log_prior_T, study.horizon)[lag], "position_bits": heads}


def _bits(log_T: np.ndarray, horizon: int) -> np.ndarray:
    inside = log_T[:horizon]
    return (log_T - inside[0] + normalised(inside)[0]) / np.log(2)

"""One short sequence that training never sees, in full: the exact predictions, the model's, and its attention. It is
for people; the verdict does not use it. In shapes, G is the lags of a curve.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windtunnel.compiled import Compiled
from windtunnel.config import Study
from windtunnel.models.tap import Collect
from windtunnel.recovery import normalised, over_lags
from windtunnel.spec import arrays
from windtunnel.train import model

OBSERVATIONS = 16  # at most, so that a person can read them
LAGS = 64  # the points of the curves of priors, evenly spaced in the logarithm of the lag


def example(study: Study, params: Any, compiled: Compiled | None = None) -> dict[str, np.ndarray]:
    """The arrays of `example.npz`, with T tokens, P observations and L layers of N heads.

    `words` [T], labels of the tokens for people; `at` [P], the tokens at which predictions are made; `outcome` [P];
    `predictive_exact` and `predictive` [P, V], probabilities; `posterior` [P, T], if hypotheses are tokens; `attention`
    [L, N, P, T], if the model has any; and the priors over lags (`lag_curves`), if the data have one.
    """
    asked = arrays(study), params
    look = (compiled or Compiled()).get(_name(asked), _look, *asked, haste=True)
    inputs, outcome, predictions = jax.tree.map(np.asarray, look(*asked))
    return {
        "words": np.asarray(study.tunnel.words(inputs)),
        "at": study.tunnel.scored(len(outcome)),
        "outcome": outcome,
        **{name: value.astype(np.float16) for name, value in predictions.items()},
        **lag_curves(study, params),
    }


def begin_example(study: Study, params: Any, compiled: Compiled) -> None:
    """Begin to compile that, from the shapes of the parameters."""
    asked = arrays(study), params
    compiled.ahead(_name(asked), _look, *asked, haste=True)


def _name(asked: Any) -> tuple[str, Any]:
    return "example", jax.tree.structure(asked)


@jax.jit
def _look(study: Study, params: Any) -> Any:
    tunnel, observations = study.tunnel, min(study.horizon, OBSERVATIONS)
    tables = tunnel.prepare(observations)
    batch = tunnel.sample(study.problem.key, tables, 1, observations)
    every, seen = jnp.arange(observations), Collect("attention")
    logits_PV = model(study, params)(batch.inputs, tunnel.scored(observations), tap=seen)[0]
    results = {
        "predictive_exact": jnp.exp(tunnel.log_predictive(tables, batch, every)[0]),
        "predictive": jax.nn.softmax(logits_PV),
    }
    if tunnel.lag_prior is not None:
        results["posterior"] = jnp.exp(tunnel.log_posterior(tables, batch, every)[0])
    if seen.seen:
        results["attention"] = jnp.stack([attention_BNPT[0] for attention_BNPT in seen["attention"].values()])
    return batch.inputs[0], batch.outcome_BP[0], results


def lag_curves(study: Study, params: Any) -> dict[str, np.ndarray]:
    """`lag` [G], `prior_bits` [G] and `position_bits` [L, N, G]: log₂ of the data's prior over lags and of every head's
    positional prior, both normalised over the lags of the horizon. Empty if the data or the model have no such prior.
    """
    known = over_lags(study, params)
    if known is None or not all(len(bias_NT) for bias_NT in known[1]):
        return {}
    log_prior_T, layers = known
    lag = np.unique(np.geomspace(1, study.problem.length, LAGS).round().astype(int)) - 1
    heads = np.asarray([[_bits(bias_T, study.horizon)[lag] for bias_T in bias_NT] for bias_NT in layers])
    return {"lag": lag, "prior_bits": _bits(log_prior_T, study.horizon)[lag], "position_bits": heads}


def _bits(log_T: np.ndarray, horizon: int) -> np.ndarray:
    inside = log_T[:horizon]
    return (log_T - inside[0] + normalised(inside)[0]) / np.log(2)

"""The implied prior: sample futures from the model alone; which prior over what is unknown do they look like?

Where observations may come in any order, outcomes are draws from an unknown p whose prior is the distribution of the
limit of their shares (de Finetti). A model that samples its own futures has such a distribution too: the prior that it
has learned, whatever its KL. Rollouts of T observations from nothing are summarised by the shares n_v / T:

    distance:       Wasserstein-1 between the shares of the rollouts and of as many sequences of the data, mean over v;
    concentration:  a = (1 − c)/(V c − 1), c the mean of Σ_v n_v(n_v − 1)/(T(T − 1)): for shares from Dirichlet(a, …, a)
                    c is (a + 1)/(V a + 1) at every T, and of other priors a is that of as much agreement.

The exact reasoner's futures are the data, so its distance is that of two samples of the data: `null`, its mean and 95 %
quantile over resamplings. Intervals are bootstraps over rollouts.

In shapes, N is the rollouts.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel.config import Study
from windtunnel.instruments.base import Build, Json, Subject
from windtunnel.train import examples, prepare

ROLLOUTS = 512
RESAMPLED = 200
BINS = 20  # of the shares, from 0 to 1, for a picture


def refusal(subject: Subject) -> str | None:
    tunnel = subject.study.tunnel
    if not tunnel.exchangeable or tunnel.outcome_tokens is None:
        return f"the observations of {tunnel.name} may not come in any order, so no limit of shares is their prior"
    return None


def measure(subject: Subject) -> Json:
    """`concentration` of the `model` and of the `data`, each [estimate, low, high]; `distance` and its `null`;
    `histogram` of the shares of all outcomes, `model` and `data`.
    """
    study, generator = subject.study, np.random.default_rng(0)
    model_NV, data_NV, more_NV = (
        np.asarray(counts) for counts in futures(study, subject.params, ROLLOUTS, subject.model)
    )
    outcomes = model_NV.shape[1]
    nulls = []
    both_NV = np.concatenate([data_NV, more_NV])
    for _ in range(RESAMPLED):
        half = generator.permutation(len(both_NV)).reshape(2, -1)
        nulls.append(distance(both_NV[half[0]], both_NV[half[1]]))
    edges = np.linspace(0, 1, BINS + 1)
    histograms = {name: np.histogram(of / study.horizon, edges)[0] / of.size
                  for name, of in (("model", model_NV), ("data", both_NV))}  # fmt: skip
    return {
        "rollouts": ROLLOUTS,
        "observations": study.horizon,
        "outcomes": outcomes,
        "concentration": {
            "model": with_interval(model_NV, generator),
            "data": with_interval(both_NV, generator),
        },
        "distance": distance(model_NV, data_NV),
        "null": {"mean": float(np.mean(nulls)), "q95": float(np.quantile(nulls, 0.95))},
        "histogram": {name: of.tolist() for name, of in histograms.items()},
    }


def lines(record: Json) -> list[str]:
    (own, low, high), (data, *_) = record["concentration"]["model"], record["concentration"]["data"]
    if own is None or data is None:
        return ["shares agree no more than those of fair draws would"]
    return [
        f"{record['rollouts']} futures of {record['observations']} observations look like a prior of concentration "
        f"{own:.3g} [{low:.3g}, {high:.3g}], the data's {data:.3g}; their shares are {record['distance']:.2g} from the "
        f"data's (two samples of the data {record['null']['mean']:.2g}, at most {record['null']['q95']:.2g} in 95 %)"
    ]


def headline(record: Json) -> dict[str, float | None]:
    own, data = record["concentration"]["model"][0], record["concentration"]["data"][0]
    return {"concentration": own, "of_data": data, "distance": record["distance"], "null": record["null"]["mean"]}


def concentration(count_NV: np.ndarray) -> float:
    """That of the Dirichlet prior under which draws agree as often; not finite where they agree as fair draws do."""
    total, outcomes = count_NV[0].sum(), count_NV.shape[1]
    agree = np.mean(np.sum(count_NV * (count_NV - 1), axis=1)) / (total * (total - 1))
    return float((1 - agree) / (outcomes * agree - 1)) if outcomes * agree > 1 else float("inf")


def with_interval(count_NV: np.ndarray, generator: np.random.Generator) -> list[float]:
    again = [concentration(count_NV[generator.integers(len(count_NV), size=len(count_NV))]) for _ in range(RESAMPLED)]
    return [concentration(count_NV), *(float(np.quantile(again, q)) for q in (0.025, 0.975))]


def distance(one_NV: np.ndarray, other_NV: np.ndarray) -> float:
    """Wasserstein-1 between the shares of each outcome in two samples of one size, mean over outcomes."""
    apart_NV = np.abs(np.sort(one_NV, axis=0) - np.sort(other_NV, axis=0))
    return float(apart_NV.mean() / one_NV[0].sum())


@partial(jax.jit, static_argnames=("count", "model"))
def futures(study: Study, params: Any, count: int, model: Build) -> tuple[Array, Array, Array]:
    """Counts of outcomes [N, V] in rollouts of the model over one horizon, and in two samples of the data."""
    tunnel, module, tables = study.tunnel, model(study, params), prepare(study)
    batch = examples(study, tables, study.problem.key, jnp.arange(2 * count))
    tokens, token_V = jnp.asarray(tunnel.scored(study.horizon)), jnp.asarray(tunnel.outcome_tokens)
    key = jax.random.fold_in(jax.random.key(0), count)

    def step(t: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        inputs_NT, count_NV = state
        logits_NV = module(inputs_NT, tokens[t][None])[:, 0]
        outcome_N = jax.random.categorical(jax.random.fold_in(key, t), logits_NV)
        shown_NT = jnp.where(jnp.arange(inputs_NT.shape[1]) == tokens[t] + 1, token_V[outcome_N][:, None], inputs_NT)
        return shown_NT, count_NV + jax.nn.one_hot(outcome_N, tunnel.outcomes)

    start = batch.inputs[:count], jnp.zeros((count, tunnel.outcomes))
    _, own_NV = jax.lax.fori_loop(0, study.horizon, step, start)
    data_NV = jax.nn.one_hot(batch.outcome_BP, tunnel.outcomes).sum(axis=1)
    return own_NV, data_NV[:count], data_NV[count:]

"""Convergence: how fast do the entropies of the exact predictive and of the model's fall, beside the law that applies?

`Tunnel.law` says which law that is. The excess over the limit is taken from the records (`curves.npz`): per bin, mean
entropies of the exact predictive and of the model's over the same sequences. Where the exact excess has a closed form
(`urn`) it is that, and the model's is it plus the difference of the two means, in which the sequences cancel. The null
of a rate is 0: who learns nothing more has an excess that does not fall.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel import records
from windtunnel.config import Study
from windtunnel.information import kl_bits
from windtunnel.instruments.base import EXAMPLES, Build, Json, Subject, sequences
from windtunnel.tunnels.answers import Law

LEAST_BITS = 1e-3  # an excess below this is not told from the model's error
FIRST = 4  # observations seen, from which on a law of large numbers is asked for


def refusal(subject: Subject) -> str | None:
    tunnel = subject.study.tunnel
    if tunnel.pool:
        return "the data come from a pool, whose law is not known"
    if tunnel.law(subject.study.problem.length) is None:
        return f"no law of convergence is stated for {tunnel.name} of this kind"
    if subject.folder is None or not (subject.folder / "curves.npz").exists():
        return "needs the curves of a judged study"
    return None


def measure(subject: Subject) -> Json:
    """`theory` is the rate of the law (`kind`, `unit`); `exact` and `model` are fitted within the horizon, `exact_past`
    and `model_past` beyond it, with standard errors; `seen`, `excess_exact` and `excess_model` are what they fit.
    """
    found = subject.study.tunnel.law(subject.study.problem.length)
    assert subject.folder is not None and found is not None  # `refusal` made sure
    if found.kind == "forgetting":
        points = forgetting(subject)
    else:
        points = excesses(subject.study, found, records.read_curves(subject.folder / "curves.npz"))
    known, inside = points.pop("closed"), np.ones(len(points["seen"]), bool)
    if found.kind in ("few", "smooth", "crossover"):
        inside = points["seen"] < subject.study.horizon
    rates = {}
    for name in ("exact", "model"):
        for where, part in (("", inside), ("_past", ~inside)):
            fitted = rate(found, points["seen"], points[f"excess_{name}"], points["used"] & part, known)
            rates[f"{name}{where}"], rates[f"{name}{where}_se"] = fitted
    return {"kind": found.kind, "unit": found.unit, "theory": found.rate, **rates,
            **{name: values.tolist() for name, values in points.items()}}  # fmt: skip


def lines(record: Json) -> list[str]:
    words = {
        "few": "hypotheses are few and far apart: the excess falls as e^(−nC), C",
        "smooth": "a smooth family: the excess falls as d/(2n) nats, d",
        "crossover": "between few hypotheses and a smooth family; C",
        "count": "entropy on log₂(what is left), slope",
        "forgetting": "what was seen w before counts e^(−γw), γ at least",
    }
    said = {
        name: "–" if record[name] is None else f"{record[name]:.3g} ± {record[f'{name}_se'] or 0:.1g}"
        for name in ("exact", "model", "exact_past", "model_past")
    }
    return [
        f"{words[record['kind']]} {record['theory']:.3g} {record['unit']}; within the horizon exact "
        f"{said['exact']}, model {said['model']}; past it exact {said['exact_past']}, "
        f"model {said['model_past']} (null: 0)"
    ]


def headline(record: Json) -> dict[str, float | None]:
    return {name: record[name] for name in ("theory", "exact", "model", "exact_past", "model_past")}


def excesses(study: Study, found: Law, curves: dict[str, np.ndarray]) -> dict[str, Any]:
    """`seen`: observations before the prediction, `excess_exact` and `excess_model` (bits; entropies for a `smooth`
    family whose limit is not known, and for a `count`), per bin, which are `used`, and whether the exact excess is
    in `closed` form.
    """
    seen = np.asarray([np.exp(np.mean(np.log(np.asarray(b.scored)))) for b in study.problem.bins.each]) - 1
    exact, found_model = curves["entropy_bits_exact"], curves["entropy_bits"]
    used = seen >= FIRST
    closed = study.tunnel.excess_bits(seen)
    if closed is not None:
        exact = closed
        found_model = exact + curves["entropy_bits"] - curves["entropy_bits_exact"]
        used &= exact > LEAST_BITS
    elif found.kind == "few":
        limit = study.tunnel.limit_bits
        assert limit is not None  # the tunnels of this kind know it
        exact, found_model = exact - limit, found_model - limit
        used &= exact > 3 * curves["entropy_bits_exact_se"]
    elif found.kind == "count":
        seen = np.log2(study.tunnel.outcomes - seen)
        used = np.ones(len(seen), bool)
    return {
        "seen": seen,
        "excess_exact": exact,
        "excess_model": found_model,
        "used": used,
        "closed": closed is not None,
    }


def rate(
    found: Law, seen: np.ndarray, excess: np.ndarray, used: np.ndarray, limit_is_known: bool = False
) -> tuple[float, float]:
    """The law's rate, from the points that are used, and its standard error.

    `few` and `crossover`: −slope of ln excess on n, over the second half of the lengths, where the law has set in;
    `forgetting`: the same over all lags. `smooth`: 2n × excess in nats, over the second half, where the limit is known;
    else the slope of H, in nats, on 1/(2n), from an eighth of the lengths on. `count`: the slope of H.
    """
    used = used & np.isfinite(excess)
    if found.kind in ("few", "crossover", "forgetting"):
        used = used & (excess > 0)
        if found.kind != "forgetting" and used.any():
            used = used & (seen >= seen[used].max() / 2)
        slope, error = line(seen[used], np.log(excess[used]))
        return -slope, error
    if found.kind == "count":
        return line(seen[used], excess[used])
    used = used & (seen >= seen[used].max(initial=0) / (2 if limit_is_known else 8))
    if limit_is_known:
        values = 2 * math.log(2) * seen[used] * excess[used]
        return float(values.mean()), float(values.std() / math.sqrt(len(values)))
    return line(1 / (2 * seen[used]), excess[used] * math.log(2))


def line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope of the least squares line, and its standard error."""
    if len(x) < 3:
        return math.nan, math.nan
    from scipy.stats import linregress

    found = linregress(x, y)
    return float(found.slope), float(found.stderr)


def forgetting(subject: Subject) -> dict[str, Any]:
    """KL (bits) between what is predicted at the last observation and what would be, had the symbol `seen` observations
    before it been another of the same sequence; of the exact reasoner and of the model.
    """
    exact, found = replaced_one(subject.study, subject.params, EXAMPLES, subject.model)
    lag = np.arange(len(exact) - 1)
    exact, found = (
        np.asarray([kl_bits(of[-1], of[-2 - w]).mean() for w in lag]) for of in map(np.asarray, (exact, found))
    )
    return {
        "seen": lag.astype(float),
        "excess_exact": exact,
        "excess_model": found,
        "used": exact > LEAST_BITS / 10,
        "closed": False,
    }


@partial(jax.jit, static_argnames=("count", "model"))
def replaced_one(study: Study, params: object, count: int, model: Build) -> tuple[Array, Array]:
    """Two [T+1, B, V] of log-predictives (nats) at the last observation: with the symbol of each observation in turn
    replaced by the one that comes after it in the sequence (the last by the first), and with none.
    """
    tables, batch = sequences(study, count)
    observations = study.horizon
    last = jnp.asarray([observations - 1])
    first = study.tunnel.header
    tokens = jnp.arange(batch.inputs.shape[1])
    following = jnp.where(tokens + 1 < len(tokens), tokens + 1, first)

    def predicted(token: Array) -> tuple[Array, Array]:
        take = jnp.where(tokens == token, following, tokens)
        changed = batch._replace(inputs=batch.inputs[:, take])
        logits = model(study, params)(changed.inputs, study.tunnel.scored(observations)[-1:])
        return study.tunnel.log_predictive(tables, changed, last)[:, 0], jax.nn.log_softmax(logits)[:, 0]

    return jax.lax.map(predicted, jnp.concatenate([first + jnp.arange(len(tokens) - first), jnp.asarray([-1])]))

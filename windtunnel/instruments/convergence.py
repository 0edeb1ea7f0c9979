"""Convergence: how fast do the entropies of the exact and the model's predictive fall, beside the law that applies?

`Tunnel.law` gives that law. The excess over the limit comes from the records (`curves.npz`), which have for each bin
the mean entropies of both predictives over the same sequences. Where the exact excess has a closed form (`urn`), that
is used, and the model's excess is the closed form plus the difference of the two means, which share the noise of the
sequences. The null of a rate is 0: the excess of a model that learns nothing more does not fall.
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

LEAST_BITS = 1e-3  # an excess below this cannot be distinguished from the model's error
TINY_BITS = 1e-9  # a difference below this is rounding
FIRST = 4  # observations seen, from which on an asymptotic law is fitted


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
    """`theory` is the rate of the law (`kind`, `unit`). The fitted rates `exact` and `model` are within the horizon,
    `exact_past` and `model_past` beyond it, all with standard errors. They are fitted to the points `seen`,
    `excess_exact` and `excess_model`.
    """
    law = subject.study.tunnel.law(subject.study.problem.length)
    assert subject.folder is not None and law is not None  # checked by `refusal`
    if law.kind == "forgetting":
        points = forgetting(subject)
    else:
        points = excesses(subject.study, law, records.read_curves(subject.folder / "curves.npz"))
    known, inside = points.pop("closed"), np.ones(len(points["seen"]), bool)
    if law.kind in ("few", "smooth", "crossover"):
        inside = points["seen"] < subject.study.horizon
    rates = {}
    for name in ("exact", "model"):
        for where, part in (("", inside), ("_past", ~inside)):
            fitted = rate(law, points["seen"], points[f"excess_{name}"], points["used"] & part, known)
            rates[f"{name}{where}"], rates[f"{name}{where}_se"] = fitted
    return {"kind": law.kind, "unit": law.unit, "theory": law.rate, "least": law.least, **rates,
            **{name: values.tolist() for name, values in points.items()}}  # fmt: skip


def lines(record: Json) -> list[str]:
    words = {
        "few": "hypotheses are few and far apart: the excess falls as e^(−nC), C",
        "smooth": "a smooth family: the excess falls as d/(2n) nats, d",
        "crossover": "between few hypotheses and a smooth family; C",
        "count": "entropy on log₂(what is left), slope",
        "forgetting": "what was seen w before counts e^(−γw), γ",
    }
    least = record.get("least")
    bound = "" if least is None else f"at least {least:.3g} by |λ₂|"
    theory = bound if least == record["theory"] else f"{record['theory']:.3g}{bound and f' ({bound})'}"
    rates = {
        name: "–" if record[name] is None else f"{record[name]:.3g} ± {record[f'{name}_se'] or 0:.1g}"
        for name in ("exact", "model", "exact_past", "model_past")
    }
    return [
        f"{words[record['kind']]} {theory} {record['unit']}; within the horizon exact "
        f"{rates['exact']}, model {rates['model']}; past it exact {rates['exact_past']}, "
        f"model {rates['model_past']} (null: 0)"
    ]


def headline(record: Json) -> dict[str, float | None]:
    return {name: record[name] for name in ("theory", "exact", "model", "exact_past", "model_past")}


def excesses(study: Study, law: Law, curves: dict[str, np.ndarray]) -> dict[str, Any]:
    """For each bin, `seen`: observations before the prediction; `excess_exact` and `excess_model` (bits; entropies for
    a `smooth` family whose limit is not known, and for a `count`); `used`: whether the fits use the bin. `closed`:
    whether the exact excess has a closed form.
    """
    seen = np.asarray([np.exp(np.mean(np.log(np.asarray(b.scored)))) for b in study.problem.bins.each]) - 1
    exact, model = curves["entropy_bits_exact"], curves["entropy_bits"]
    used = seen >= FIRST
    closed = study.tunnel.excess_bits(seen)
    if closed is not None:
        exact = closed
        model = exact + curves["entropy_bits"] - curves["entropy_bits_exact"]
        used &= exact > LEAST_BITS
    elif law.kind == "few":
        limit = study.tunnel.limit_bits
        assert limit is not None  # tunnels of this kind have one
        exact, model = exact - limit, model - limit
        used &= exact > 3 * curves["entropy_bits_exact_se"]
    elif law.kind == "count":
        seen = np.log2(study.tunnel.outcomes - seen)
        used = np.ones(len(seen), bool)
    return {
        "seen": seen,
        "excess_exact": exact,
        "excess_model": model,
        "used": used,
        "closed": closed is not None,
    }


def rate(
    law: Law, seen: np.ndarray, excess: np.ndarray, used: np.ndarray, limit_is_known: bool = False
) -> tuple[float, float]:
    """The law's rate, estimated from the points that are used, and its standard error.

    `few` and `crossover`: −slope of ln excess on n, over the second half of the lengths, where the law is a good
    approximation; `forgetting`: the same over all lags. `smooth`: 2n × excess in nats, over the second half, if the
    limit is known; else the slope of H, in nats, on 1/(2n), from an eighth of the lengths on. `count`: the slope of H.
    """
    used = used & np.isfinite(excess)
    if law.kind in ("few", "crossover", "forgetting"):
        used = used & (excess > 0)
        if law.kind != "forgetting" and used.any():
            used = used & (seen >= seen[used].max() / 2)
        slope, error = line(seen[used], np.log(excess[used]))
        return -slope, error
    if law.kind == "count":
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

    fit = linregress(x, y)
    return float(fit.slope), float(fit.stderr)


def forgetting(subject: Subject) -> dict[str, Any]:
    """KL (bits) between the prediction at the last observation and the same prediction after the symbol `seen`
    observations earlier was replaced by another symbol of the sequence; for the exact reasoner and for the model. The
    geometric mean over the sequences in which these differ: the rate is that of almost every sequence, and a mean of
    what falls exponentially is that of the few in which it falls slowest.
    """
    exact, model = with_a_symbol_replaced(subject.study, subject.params, EXAMPLES, subject.model)
    lag = np.arange(len(exact) - 1)
    each = [kl_bits(of[-1], of[-2 - w]) for w in lag for of in map(np.asarray, (exact, model))]
    exact_TB, model_TB = np.maximum(each[::2], TINY_BITS), np.maximum(each[1::2], TINY_BITS)
    differs_TB = np.asarray(each[::2]) > 0
    exact, model = (np.exp(np.mean(np.log(of_TB), axis=1, where=differs_TB)) for of_TB in (exact_TB, model_TB))
    return {
        "seen": lag.astype(float),
        "excess_exact": exact,
        "excess_model": model,
        "used": exact > LEAST_BITS / 10,
        "closed": False,
    }


@partial(jax.jit, static_argnames=("count", "model"))
def with_a_symbol_replaced(study: Study, params: object, count: int, model: Build) -> tuple[Array, Array]:
    """Log-predictives (nats) at the last observation, exact and the model's, both [T+1, B, V]: entry t with the symbol
    of observation t replaced by the next symbol of the sequence (the last by the first), the last entry with none
    replaced.
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

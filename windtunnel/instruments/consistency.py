"""Bayesian consistency: do attention weights compute the exact posterior over hypotheses, and do predictions use it?

Where hypotheses are tokens, or map to them (`Tunnel.token_weights`), a head's row α is compared with the exact
posterior P over the same tokens, at every scored token where P is defined:

    score = 1 − JSD(α, P) in bits, which lies in [0, 1]; its distribution as quantiles of JSD;
    s_ij = slope · log P_ij + c_i: the least squares line with an intercept c_i for each query, which a softmax ignores.

Exact Bayes has score 1, slope 1, R² 1; the slope of a tempered posterior is its inverse temperature. Where a tunnel has
a prior over lags and the head adds a prior to its score, the score is split: content against the log-likelihood,
position against the log-prior. Nulls: uniform attention, a random initialisation, and the posterior of another
sequence.

This comparison is correlational; interventions (`causal.py`) show what predictions depend on.
"""

import math

import jax.numpy as jnp
import numpy as np

from windtunnel.config import Study
from windtunnel.information import js_bits
from windtunnel.instruments.base import Json, Seen, Subject, no_attention, visible
from windtunnel.instruments.causal import interventions
from windtunnel.models.parameters import learned_prior
from windtunnel.models.position import per_layer
from windtunnel.recovery import biases

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BAYESIAN = 0.9  # the score from which on a head is called Bayesian


def refusal(subject: Subject) -> str | None:
    if why := no_attention(subject.study):
        return why
    if not subject.weighs_tokens:
        return f"the posterior of {subject.study.tunnel.name} is no weighing of tokens"
    return None


def measure(subject: Subject) -> Json:
    """The correlational measurements, and `causal`: the effects of interventions."""
    return {**observe(subject), "causal": interventions(subject)}


def observe(subject: Subject) -> Json:
    """`heads`: one row for each layer and head; `best`: the index of the most consistent head."""
    rows = heads(subject.study, subject.params, subject.seen)
    nulls = heads(subject.study, None, subject.untrained)
    for row, null in zip(rows, nulls, strict=True):
        row["untrained"] = {name: null[name] for name in ("score", "slope", "r2")}
    best = int(np.argmax([row["score"] for row in rows]))
    return {
        "queries": int(defined(subject.seen).sum()),
        "uniform_score": float(uniform_score(subject.seen)),
        "best": best,
        "heads": rows,
    }


def lines(record: Json) -> list[str]:
    best = record["heads"][record["best"]]
    name = f"{best['layer']}.{best['head']}"
    causal = record["causal"]
    replaced = next(row for row in causal["heads"] if (row["layer"], row["head"]) == (best["layer"], best["head"]))
    verdict = "is Bayesian" if best["score"] >= BAYESIAN else "is nearest to the posterior"
    sentences = [
        f"head {name} {verdict}: score {best['score']:.4f} (untrained {best['untrained']['score']:.3f}, uniform "
        f"{record['uniform_score']:.3f}, another sequence's posterior {best['shuffled_score']:.3f}); logits on "
        f"log-posterior: slope {_number(best['slope'])}, R² {_number(best['r2'])}",
        f"its attention replaced: ΔKL {_bits(replaced['exact'])} by the exact posterior, {_bits(replaced['uniform'])} "
        f"by uniform, {_bits(replaced['shuffled'])} by another sequence's, {_bits(replaced['ablated'])} if it is "
        f"ablated (KL {causal['kl_bits']:.2g} bits)",
    ]
    if best.get("content"):
        sentences.append(
            f"its content on the log-likelihood: slope {_number(best['content']['slope'])}, R² "
            f"{_number(best['content']['r2'])}; its position on the log-prior: "
            f"{_number(best['position']['slope'])}, {_number(best['position']['r2'])}"
        )
    rests = max(causal["heads"], key=lambda row: row["uniform"]["bits"])
    if rests is not replaced:
        other = next(row for row in record["heads"] if (row["layer"], row["head"]) == (rests["layer"], rests["head"]))
        sentences.append(
            f"predictions rest most on head {rests['layer']}.{rests['head']} (uniform {_bits(rests['uniform'])}, exact "
            f"{_bits(rests['exact'])}): score {other['score']:.4f}, slope {_number(other['slope'])}, "
            f"R² {_number(other['r2'])}"
        )
    for swap in causal["frames"]:
        counter = "" if swap["counterfactual"] is None else f", and then {swap['counterfactual']:.2g} bits from the "
        counter += "posterior of data swapped likewise" if counter else ""
        sentences.append(
            f"keys of layer {swap['layer']} swapped between hypotheses: ΔKL {_bits(swap['swapped'])} "
            f"(as far in a random direction {_bits(swap['random'])}){counter}"
        )
    return sentences


def headline(record: Json) -> dict[str, float | None]:
    best = record["heads"][record["best"]]
    numbers = {"deviation": 1 - best["score"], "slope": best["slope"], "r2": best["r2"]}
    if "causal" not in record:
        return numbers
    causal = record["causal"]
    replaced = next(row for row in causal["heads"] if (row["layer"], row["head"]) == (best["layer"], best["head"]))
    return {
        **numbers,
        "kl_exact": replaced["exact"]["bits"],
        "kl_uniform": replaced["uniform"]["bits"],
        "kl_all_exact": causal["all_exact"]["bits"],
    }


def heads(study: Study, params: object, seen: Seen) -> list[Json]:
    """The correlational part, one row for each layer and head."""
    log_P_BPT = np.asarray(seen.log_target_BPT, np.float64)
    where_BP = defined(seen)
    split = None if params is None else splitting(study, params, seen)
    rows = []
    for depth in seen.depths:
        attention_BNPT, score_BNPT = (
            np.asarray(seen.taps[name][depth], np.float64)[:, :, seen.tokens] for name in ("attention", "scores")
        )
        for head in range(attention_BNPT.shape[1]):
            off_BP = js_bits(log(attention_BNPT[:, head]), log_P_BPT)
            other_BP = js_bits(log(attention_BNPT[:, head]), np.roll(log_P_BPT, 1, axis=0))
            row = {
                "layer": depth,
                "head": head,
                "score": float(1 - off_BP[where_BP].mean()),
                "deviation": dict(zip(map(str, QUANTILES), np.quantile(off_BP[where_BP], QUANTILES), strict=True)),
                "shuffled_score": float(1 - other_BP[where_BP & np.roll(where_BP, 1, axis=0)].mean()),
                **line(log_P_BPT[where_BP], score_BNPT[:, head][where_BP]),
            }
            if split is not None:
                likelihood, prior, added = split
                bias_N = added(depth)
                at = np.asarray(seen.tokens)
                lag_PT = np.maximum(at[:, None] - np.arange(score_BNPT.shape[-1])[None], 0)
                content = score_BNPT[:, head] - bias_N[head][lag_PT]
                position = np.broadcast_to(bias_N[head][lag_PT], content.shape)
                row["content"] = line(likelihood[where_BP], content[where_BP])
                row["position"] = line(np.broadcast_to(prior, content.shape)[where_BP], position[where_BP])
            rows.append(row)
    return rows


def splitting(study: Study, params: object, seen: Seen) -> tuple | None:
    """(log-likelihood [B, P, T], log-prior [P, T], function of depth → additive prior [N, T] by lag) where tokens are
    hypotheses under a prior over lags; else None. The whole score of a head that adds no prior is content.
    """
    prior = study.tunnel.lag_prior
    if prior is None or study.position is None or study.model.softmax != "plain":
        return None
    at, tokens = np.asarray(seen.tokens), seen.batch.inputs.shape[1]
    log_prior_T = np.asarray(prior.log_density(jnp.arange(tokens, dtype=float)), np.float64)
    log_prior_PT = log_prior_T[np.maximum(at[:, None] - np.arange(tokens)[None], 0)]
    layers = per_layer(study.position, study.model.layers)

    def added(depth: int) -> np.ndarray:
        layer = depth % study.model.layers
        bias_NT = np.asarray(biases(study, layers[layer], learned_prior(params, layer)), np.float64)
        return bias_NT if len(bias_NT) else np.zeros((study.model.heads, tokens))

    return np.asarray(seen.log_target_BPT, np.float64) - log_prior_PT[None], log_prior_PT, added


def defined(seen: Seen) -> np.ndarray:
    """bool[B, P]: where there is a posterior over at least two visible tokens and the prediction is scored."""
    log_P_BPT = np.asarray(seen.log_target_BPT)
    at = np.asarray(seen.tokens)
    return (log_P_BPT > -np.inf).any(axis=-1) & (at > 0)[None] & (np.asarray(seen.batch.weight_BP) > 0)


def uniform_score(seen: Seen) -> float:
    tokens = seen.batch.inputs.shape[1]
    rows_PT = visible(tokens)[np.asarray(seen.tokens)]
    even = np.broadcast_to(rows_PT / rows_PT.sum(axis=-1, keepdims=True), seen.log_target_BPT.shape)  # type: ignore[union-attr]
    return 1 - js_bits(log(even), np.asarray(seen.log_target_BPT, np.float64))[defined(seen)].mean()


def log(weight: np.ndarray) -> np.ndarray:
    """The logarithm of weights, without a warning where they are zero."""
    with np.errstate(divide="ignore"):
        return np.log(weight)


def line(x_KT: np.ndarray, y_KT: np.ndarray) -> dict[str, float]:
    """Least squares y = slope · x + c_k over the last axis, with an intercept for each of K queries, where both are
    finite. R² is the share of y's variance within queries that the line explains. NaN where x does not vary.
    """
    both = np.isfinite(x_KT) & np.isfinite(y_KT)
    count = np.maximum(both.sum(axis=-1, keepdims=True), 1)

    def centred(of: np.ndarray) -> np.ndarray:
        of = np.where(both, of, 0.0)
        return np.where(both, of - of.sum(axis=-1, keepdims=True) / count, 0.0)

    x, y = centred(x_KT), centred(y_KT)
    xx, xy, yy = (float(np.sum(a * b)) for a, b in ((x, x), (x, y), (y, y)))
    if xx < 1e-9 * max(both.sum(), 1):
        return {"slope": math.nan, "r2": math.nan}
    return {"slope": xy / xx, "r2": xy**2 / (xx * yy) if yy > 1e-12 * max(both.sum(), 1) else math.nan}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _bits(of: Json) -> str:
    return f"{of['bits']:+.2g} ± {of['se']:.1g}"

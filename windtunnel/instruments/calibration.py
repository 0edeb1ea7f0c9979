"""Calibration: does the model know what it does not know?

Everything is on the study's evaluation sequences, in range and past the horizon apart (to 16 horizons), and beside the
exact reasoner's own. Against drawn outcomes even the exact reasoner has an expected calibration error, from sampling;
against the exact predictive it has none, and a model's excess in Brier score is Σ_v (q_v − p_v)², in closed form.

Uncertainty has two parts where a hypothesis h stands behind the data: H(o) = E[H(o | h)] + I(o; h), aleatoric and
epistemic. The exact ones are closed for some tunnels (`Tunnel.aleatoric`). A model that only predicts shows epistemic
uncertainty in two steps: if outcomes are independent given h, what one outcome would say about the next,

    I(o_t; o_{t+1} | past) = Σ_a q(a) KL(q(· | past, a) ‖ Σ_a' q(a') q(· | past, a')) ≤ I(o_t; h | past),

is information about h. All outcomes a are appended to all sequences at once, and what comes later cannot be seen, so no
cache is needed: a pass over V × B sequences for each place.

Attention may be read as confidence: its entropy, or its largest weight, as a predictor of the exact predictive's
entropy (R² of a parabola, judged on other sequences), beside position alone and an untrained model's attention.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel.compare import mean_and_error
from windtunnel.config import Study
from windtunnel.information import entropy_bits, kl, kl_bits
from windtunnel.instruments import reliability
from windtunnel.instruments.base import EXAMPLES, Build, Json, Subject, no_attention, sequences
from windtunnel.instruments.routing import near, null
from windtunnel.models.tap import Closed, Collect
from windtunnel.tunnels import Batch

PLACES = ("in_range", "past")


def refusal(subject: Subject) -> str | None:
    return None  # whatever predicts can be held against what comes


def measure(subject: Subject) -> Json:
    """`in_range` and `past`: scores of `model` and `exact`, the model's `excess`, the parts of the exact uncertainty,
    and R² of `attention`; `past` is None where nothing is judged there. `two_step`: epistemic bits by place.
    """
    study, count = subject.study, subject.study.evaluate.examples
    bins = near(study).bins
    said = jax.tree.map(np.asarray, predicted(study, subject.params, count, subject.model))
    untrained = None
    if said.attention_LNBP2.size:
        untrained = np.asarray(predicted(study, null(subject), count, subject.model).attention_LNBP2)
    record: Json = {}
    for place, where_P in zip(PLACES, (bins.inside_P, bins.past_P), strict=True):
        counts_BP = (said.weight_BP > 0) & (where_P > 0)[None]
        record[place] = scores(said, counts_BP, untrained) if counts_BP.any() else None
    record["two_step"] = epistemic(subject)
    return record


def lines(record: Json) -> list[str]:
    sentences = []
    for place, words in zip(PLACES, ("in range", "past the horizon"), strict=True):
        if not record[place]:
            continue
        model, exact, excess = (record[place][name] for name in ("model", "exact", "excess"))
        sentences.append(
            f"{words} ECE {_n(model['ece'])} against drawn outcomes (the exact reasoner {_n(exact['ece'])}), "
            f"{_n(model['ece_exact'])} against exact probabilities; confidence {model['overconfidence']:+.2g}; Brier "
            f"excess {_n(excess['brier'])}, risk–coverage excess {_n(excess['aurc'])}; KL {_n(excess['kl_bits'])} bits"
        )
        if exact["epistemic_bits"] is not None:
            sentences.append(
                f"{words} the exact uncertainty of {exact['entropy_bits']:.3g} bits is {exact['aleatoric_bits']:.3g} "
                f"aleatoric and {exact['epistemic_bits']:.3g} epistemic; the model's predictions have "
                f"{model['entropy_bits']:.3g} bits"
            )
        if attention := record[place]["attention"]:
            own, head = attention["own"], f"head {attention['layer']}.{attention['head']}"
            sentences.append(
                f"{words} the exact entropy is predicted by position alone with R² {_n(attention['position'])}, by the "
                f"entropy of attention ({head}) {_n(attention['entropy'])}, untrained {_n(attention['untrained'])}, by "
                f"its largest weight {_n(attention['largest'])}, by the model's own entropy {_n(own)}"
            )
    if record["two_step"]:
        step = record["two_step"]
        means = {name: float(np.mean(step[name])) for name in ("model", "exact", "epistemic")}
        sentences.append(
            f"epistemic bits by two-step predictives: {means['model']:.3g} (the exact reasoner {means['exact']:.3g}; "
            f"all that an outcome says about the hypothesis {means['epistemic']:.3g})"
        )
    return sentences


def headline(record: Json) -> dict[str, float | None]:
    numbers: dict[str, float | None] = {}
    for place, suffix in zip(PLACES, ("", "_past"), strict=True):
        if of := record[place]:
            numbers |= {
                f"ece{suffix}": of["model"]["ece"],
                f"exact's{suffix}": of["exact"]["ece"],
                f"confidence{suffix}": of["model"]["overconfidence"],
                f"brier{suffix}": of["excess"]["brier"],
                f"risk{suffix}": of["excess"]["aurc"],
            }
    return numbers


def scores(said: "Predicted", counts_BP: np.ndarray, untrained: np.ndarray | None) -> Json:
    """Every number about the predictions that count."""
    log_p, log_q, outcome = (of[counts_BP] for of in (said.log_p_BPV, said.log_q_BPV, said.outcome_BP))
    record, risks = {}, {}
    for name, log_r in (("model", log_q), ("exact", log_p)):
        confidence = reliability.confidence(log_r, log_p, outcome)
        diagram, risks[name] = reliability.diagram(confidence), reliability.risk(confidence)
        record[name] = {
            "ece": reliability.ece(diagram, "drawn"),
            "ece_exact": reliability.ece(diagram, "exact"),
            "overconfidence": float((confidence.stated_N - confidence.exact_N).mean()),
            "brier": reliability.brier(log_r, outcome),
            "aurc": float(risks[name].mean()),
            "entropy_bits": float(entropy_bits(log_r).mean()),
            "diagram": diagram,
            "risk": reliability.at_coverages(risks[name]),
        }
    aleatoric = None if said.aleatoric_BP is None else float(said.aleatoric_BP[counts_BP].mean() / np.log(2))
    record["exact"]["aleatoric_bits"] = aleatoric
    record["exact"]["epistemic_bits"] = None if aleatoric is None else record["exact"]["entropy_bits"] - aleatoric
    square_BP = (np.exp(said.log_q_BPV.astype(np.float64)) - np.exp(said.log_p_BPV.astype(np.float64))) ** 2
    brier, brier_se = mean_and_error(square_BP.sum(axis=-1), counts_BP.astype(float))
    bits, bits_se = mean_and_error(kl_bits(said.log_p_BPV, said.log_q_BPV), counts_BP.astype(float))
    aurc = record["model"]["aurc"] - record["exact"]["aurc"]
    excess = {"brier": brier, "brier_se": brier_se, "aurc": aurc, "kl_bits": bits, "kl_bits_se": bits_se}
    return {**record, "excess": excess, "attention": of_attention(said, counts_BP, untrained)}


def of_attention(said: "Predicted", counts_BP: np.ndarray, untrained: np.ndarray | None) -> Json | None:
    """R² of predictors of the exact entropy: position alone, the attention of the head whose entropy predicts best, and
    the model's own entropy. The untrained model has the choice of its best head, too.
    """
    if untrained is None:
        return None
    exact_BP = entropy_bits(said.log_p_BPV)

    def best(attention_LNBP2: np.ndarray) -> tuple[float, int, int]:
        layers, heads = attention_LNBP2.shape[:2]
        every = [(layer, head) for layer in range(layers) for head in range(heads)]
        return max((reliability.explained(attention_LNBP2[at][..., 0], exact_BP, counts_BP), *at) for at in every)

    entropy, layer, head = best(said.attention_LNBP2)
    return {
        "layer": layer,
        "head": head,
        "position": reliability.by_place(exact_BP, counts_BP),
        "entropy": entropy,
        "largest": reliability.explained(said.attention_LNBP2[layer, head][..., 1], exact_BP, counts_BP),
        "untrained": best(untrained)[0],
        "own": reliability.explained(entropy_bits(said.log_q_BPV), exact_BP, counts_BP),
    }


class Predicted(NamedTuple):
    """Of the evaluation sequences at their scored places, up to 16 horizons; nats."""

    log_p_BPV: Any
    log_q_BPV: Any
    outcome_BP: Any
    weight_BP: Any
    aleatoric_BP: Any  # None where it has no closed form
    attention_LNBP2: Any  # the entropy of each head's attention, and its largest weight; empty where there is none


@partial(jax.jit, static_argnames=("count", "model"))
def predicted(study: Study, params: Any, count: int, model: Build) -> Predicted:
    problem, module = near(study), model(study, params)
    tables, at = study.tunnel.prepare(problem.length), jnp.asarray(problem.bins.at)
    shown = no_attention(study) is None

    def one(batch: Batch) -> Predicted:
        tap = Collect("attention")
        log_q_BPV = jax.nn.log_softmax(module(batch.inputs, problem.tokens, tap=tap if shown else Closed()))
        layers = [weight_BNPT for _, weight_BNPT in sorted(tap.seen.get("attention", {}).items())]
        return Predicted(
            study.tunnel.log_predictive(tables, batch, at),
            log_q_BPV,
            batch.outcome_BP[:, at],
            batch.weight_BP[:, at],
            study.tunnel.aleatoric(tables, batch, at),
            jnp.stack([spread(of) for of in layers], axis=1) if layers else jnp.zeros((1, *[0] * 4)),
        )

    each = problem.each(one, jnp.arange(count))
    return each._replace(attention_LNBP2=jnp.moveaxis(each.attention_LNBP2, 0, 2))


def spread(weight_BNPT: Array) -> Array:
    """[B, N, P, 2]: the entropy (nats) of attention, and its largest weight."""
    log = jnp.log(jnp.where(weight_BNPT > 0, weight_BNPT, 1.0))
    return jnp.stack([-jnp.sum(weight_BNPT * log, axis=-1), jnp.max(weight_BNPT, axis=-1)], axis=-1)


def epistemic(subject: Subject) -> Json | None:
    """By place: the information (bits, means over sequences) between an outcome and the next, of the model and the
    exact reasoner, and the exact epistemic bits of that outcome. None where outcomes are not shown, or more than one
    hypothesis stands behind a sequence.
    """
    study, tunnel = subject.study, subject.study.tunnel
    if not tunnel.independent or tunnel.outcome_tokens is None or study.horizon < 2:
        return None
    places = sorted({min(2**i, study.horizon - 1) for i in range(study.horizon.bit_length())})  # observations, from 1
    asked = jnp.asarray(places) - 1
    each = jax.tree.map(np.asarray, continued(study, subject.params, EXAMPLES, subject.model, asked))
    (log_q_PBV, log_q_next_PABV), (log_p_PBV, log_p_next_PABV), aleatoric_BP = each
    exact = entropy_bits(log_p_PBV) - np.moveaxis(aleatoric_BP, 0, 1) / np.log(2)
    return {
        "observation": places,
        "model": information_bits(log_q_PBV, log_q_next_PABV).mean(axis=-1).tolist(),
        "exact": information_bits(log_p_PBV, log_p_next_PABV).mean(axis=-1).tolist(),
        "epistemic": exact.mean(axis=-1).tolist(),
    }


def information_bits(log_q_PBV: np.ndarray, log_next_PABV: np.ndarray) -> np.ndarray:
    """[P, B]: Σ_a q(a) KL(q(· | a) ‖ Σ_a' q(a') q(· | a')), of distributions of an outcome and of the next."""
    log_a_PBA = log_q_PBV.astype(np.float64)
    log_next_PBAV = np.moveaxis(log_next_PABV, 1, 2).astype(np.float64)
    possible = log_a_PBA > -np.inf  # what follows the impossible is nothing
    log_next_PBAV = np.where(possible[..., None], log_next_PBAV, 0.0)
    log_mean_PBV = np.logaddexp.reduce(log_a_PBA[..., None] + log_next_PBAV, axis=2)
    with np.errstate(invalid="ignore"):
        gap_PBA = kl(log_next_PBAV, log_mean_PBV[:, :, None]) / np.log(2)
    return np.where(possible, np.exp(log_a_PBA) * gap_PBA, 0.0).sum(axis=-1)


@partial(jax.jit, static_argnames=("count", "model"))
def continued(study: Study, params: Any, count: int, model: Build, asked: Array) -> Any:
    """Log-predictives (nats) of the model and of the exact reasoner: at the places asked [P, B, V], and at the next
    place after each outcome a [P, A, B, V]; and the aleatoric nats [B, P].
    """
    tunnel, (tables, batch) = study.tunnel, sequences(study, count)
    module, tokens = model(study, params), jnp.asarray(tunnel.scored(study.horizon))
    outcome_tokens = jnp.asarray(tunnel.outcome_tokens)

    def of(batch: Batch, place: Array) -> tuple[Array, Array]:
        log_q_BV = jax.nn.log_softmax(module(batch.inputs, tokens[place][None]))[:, 0]
        return log_q_BV, tunnel.log_predictive(tables, batch, place[None])[:, 0]

    def after(pair: tuple[Array, Array]) -> tuple[Array, Array]:
        place, a = pair
        changed = Batch(
            batch.inputs.at[:, tokens[place] + 1].set(outcome_tokens[a].astype(batch.inputs.dtype)),
            batch.outcome_BP.at[:, place].set(a),
            batch.weight_BP,
        )
        return of(changed, place + 1)

    here_PBV = jax.lax.map(lambda place: of(batch, place), asked)
    count_P, count_A = len(asked), tunnel.outcomes
    pairs = jnp.repeat(asked, count_A), jnp.tile(jnp.arange(count_A), count_P)
    next_PABV = jax.tree.map(lambda x: x.reshape(count_P, count_A, *x.shape[1:]), jax.lax.map(after, pairs))
    aleatoric_BP = tunnel.aleatoric(tables, batch, asked)
    return (here_PBV[0], next_PABV[0]), (here_PBV[1], next_PABV[1]), aleatoric_BP


def _n(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"

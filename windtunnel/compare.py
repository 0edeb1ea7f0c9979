"""The comparator: how far a model's predictive lies from the exact one, in bits, and what follows from it.

Plain numpy in float64. Log-probabilities come in as nats, everything goes out in bits. B examples, P positions.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from windtunnel.bins import Bins
from windtunnel.decide import FAILS, HOLDS, curve, decide, mean_and_error, outcome, state
from windtunnel.information import entropy_bits, js_bits, kl_bits, total_variation
from windtunnel.problem import Exact, Problem

Numbers = dict[str, Any]
Curves = dict[str, np.ndarray]

LEAK = 6  # log₁₀ of the evidence from which on a model is said to have seen what it predicts
ORACLE = "oracle"  # a baseline that knows more than the exact reasoner: beside the others, and no headroom
WINDOW = 8  # observations: a model that is no better than a reasoner with so few does not recurse


def divergences(log_p: np.ndarray, log_q: np.ndarray) -> Curves:
    """{metric: [B, P]} for the exact p and the model's q, both [B, P, V] in nats.

    `tv` is the total variation, `entropy_gap_bits` = |H(q) − H(p)|, `impossible_mass` the mass of q where p = 0; the
    others are as in `information.py`.
    """
    q = np.exp(log_q.astype(np.float64))
    return {
        "kl_bits": kl_bits(log_p, log_q),
        "js_bits": js_bits(log_p, log_q),
        "tv": total_variation(log_p, log_q),
        "entropy_gap_bits": np.abs(entropy_bits(log_q) - entropy_bits(log_p)),
        "impossible_mass": np.where(log_p == -np.inf, q, 0.0).sum(axis=-1),
    }


class More(NamedTuple):
    """KL (bits, [B, P]) on sequences beyond those that are reported, and the weights of their predictions."""

    kl_bits: np.ndarray
    weight: np.ndarray


def verdict(problem: Problem, exact: Exact, log_q: np.ndarray, more: More | None = None) -> tuple[Numbers, Curves]:
    """The verdict on a model that says `log_q` (nats, [B, P, V]) of a problem's evaluation sequences, and its curves
    over bins. `exact` are the exact answers, as numpy arrays. `more` sequences decide bins, and nothing else.

    Where the data come from a pool, the exact predictive knows it, and `exact.full` is what the reasoner says that
    knows only the prior.
    """
    bins, evaluate, log_p, weight = problem.bins, problem.evaluate, exact.log_predictive, exact.weight
    metrics = divergences(log_p, log_q)
    if exact.full is not None:
        metrics |= {"kl_bits_pool": metrics["kl_bits"], "kl_bits_full": kl_bits(exact.full, log_q)}
    entropies = {"entropy_bits": entropy_bits(log_q), "entropy_bits_exact": entropy_bits(log_p)}
    names = sorted(exact.baselines, key=lambda name: (window(name, bins.horizon), name))
    gaps = {name: kl_bits(log_p, exact.baselines[name]) for name in names}
    inside, past = weight * bins.inside_P, weight * bins.past_P

    numbers: Numbers = {}
    curves: Curves = {
        "first": np.asarray([b.first for b in bins.each]),
        "last": np.asarray([b.last for b in bins.each]),
    }
    for name, values in {**metrics, **entropies}.items():
        curves[name], curves[f"{name}_se"] = curve(bins, values, weight)
    for name, values in gaps.items():
        curves[f"baseline/{name}"], _ = curve(bins, values, weight)
    for name, values in metrics.items():
        numbers[name], numbers[f"{name}_se"] = mean_and_error(values, inside)
        numbers[f"{name}_past"], numbers[f"{name}_past_se"] = mean_and_error(values, past)

    curves["headroom_bits"] = headroom_curve(bins, curves)
    means = {name: [mean_and_error(gap, where)[0] for where in (inside, past)] for name, gap in gaps.items()}
    numbers["baselines"] = {name: {"kl_bits": a, "kl_bits_past": finite(b)} for name, (a, b) in means.items()}
    numbers["headroom_bits"] = min(means[name][0] for name in lesser(gaps, bins.horizon))
    numbers["headroom_bits_past"] = min(means[name][1] for name in lesser(gaps))

    if exact.log_domains is not None:
        more_numbers, more_curves = by_domain(bins, exact, metrics["kl_bits"], gaps, evaluate.tolerance)
        numbers, curves = numbers | more_numbers, curves | more_curves

    kl_BP, weight_BP = metrics["kl_bits"], weight
    if more is not None:
        kl_BP, weight_BP = np.concatenate([kl_BP, more.kl_bits]), np.concatenate([weight, more.weight])
    decision = decide(bins, kl_BP, weight_BP, evaluate.tolerance)
    curves["state"] = np.asarray(decision.states)
    numbers |= decision.lengths()
    numbers |= worst_bin(bins, curves)
    unseen = min(1.0, 3 / decision.sequences)
    numbers |= {"sequences": decision.sequences, "unseen_share": unseen, "open": decision.open}
    numbers |= convergence(curves, evaluate.settled, problem.tunnel.limit_bits)
    memory = {window(name, bins.horizon): pair[bool(bins.beyond)] for name, pair in means.items()}
    memory = {w: gap for w, gap in memory.items() if 0 < w < math.inf}
    numbers |= equivalent_memory(memory, numbers["kl_bits_past" if bins.beyond else "kl_bits"])
    numbers["recursing"] = recursing(memory, numbers, evaluate.tolerance) if problem.tunnel.recursive else None
    numbers |= leak(log_p, log_q, exact.outcome, weight)
    words = outcome(decision, curves["headroom_bits"], evaluate.tolerance)
    recursing_not = "; not recursing" if numbers["recursing"] is False else ""
    numbers["verdict"] = "leak" if numbers["leak"] else words + recursing_not
    return {key: finite(value) for key, value in numbers.items()}, curves


def by_domain(bins: Bins, exact: Exact, kl_BP: np.ndarray, gaps: Curves, tolerance: float) -> tuple[Numbers, Curves]:
    """KL in each domain of a mixed prompt: every prediction counts in a domain by the exact posterior over domains, so
    that what nobody can know yet counts in all. Headroom likewise, and the verdict, from the reported sequences alone.
    """
    numbers, curves = [], {}
    for domain, weight in enumerate(np.moveaxis(np.exp(exact.log_domains.astype(np.float64)), -1, 0) * exact.weight):
        inside, past = weight * bins.inside_P, weight * bins.past_P
        curves[f"domain/{domain}/kl_bits"], curves[f"domain/{domain}/kl_bits_se"] = curve(bins, kl_BP, weight)
        (mean, error), (mean_past, error_past) = mean_and_error(kl_BP, inside), mean_and_error(kl_BP, past)
        known = {
            "kl_bits": mean,
            "kl_bits_se": error,
            "kl_bits_past": mean_past,
            "kl_bits_past_se": error_past,
            "headroom_bits": min(mean_and_error(gaps[name], inside)[0] for name in lesser(gaps, bins.horizon)),
            "headroom_bits_past": min(mean_and_error(gaps[name], past)[0] for name in lesser(gaps)),
        }
        share = weight.sum() / max(exact.weight.sum(), 1e-300)  # the 256 samples of a bin are those of all domains
        decision = decide(bins, kl_BP, weight / max(share, 1e-300), tolerance)
        headroom = headroom_curve(bins, {f"baseline/{name}": curve(bins, gap, weight)[0] for name, gap in gaps.items()})
        known |= {"critical_length": decision.lengths()["critical_length"]}
        known |= {"verdict": outcome(decision, headroom, tolerance)}
        numbers.append({key: finite(value) for key, value in known.items()})
    return {"domains": numbers}, curves


def by_hops(problem: Problem, exact: Exact, log_q: np.ndarray) -> tuple[Numbers, Curves]:
    """KL over the number of hops that questions ask for, in range and past the horizon. `critical_hops`: the largest
    number in range up to which none fails, and up to which all hold (`_low`); what decides is as for bins.
    """
    bins, tolerance = problem.bins, problem.evaluate.tolerance
    each = np.unique(exact.asked)
    gaps = {"": kl_bits(exact.log_predictive, log_q)}
    gaps |= {f"baseline/{name}": kl_bits(exact.log_predictive, log_b) for name, log_b in exact.baselines.items()}
    curves: Curves = {"hops": each}
    for place, where_P in (("kl_bits", bins.inside_P), ("kl_bits_past", bins.past_P)):
        weights = [exact.weight * where_P * (exact.asked == n) for n in each]
        for name, gap in gaps.items():
            pairs = np.asarray([mean_and_error(gap, weight) for weight in weights])
            curves[f"hops/{name or place}{'_past' if name and place != 'kl_bits' else ''}"] = pairs[:, 0]
            if not name:
                curves[f"hops/{place}_se"] = pairs[:, 1]
    counted = [exact.weight[(exact.asked == n) & (bins.inside_P > 0)[None]].sum() for n in each]
    decided = zip(curves["hops/kl_bits"], curves["hops/kl_bits_se"], counted, strict=True)
    states = [state(mean, error, samples, tolerance) for mean, error, samples in decided]
    curves["hops/state"] = np.asarray(states)

    def before(bad: list[bool]) -> int | None:
        until = bad.index(True) if True in bad else len(each)
        return int(each[until - 1]) if until else None

    low, high = before([one != HOLDS for one in states]), before([one == FAILS for one in states])
    return {"critical_hops": high, "critical_hops_low": low, "hops_judged": int(each[-1])}, curves


def worst_bin(bins: Bins, curves: Curves) -> Numbers:
    """The bin within the horizon with the largest KL: a mean over all hides it."""
    inside = np.nan_to_num(curves["kl_bits"][bins.inside], nan=-np.inf, posinf=np.inf)
    worst = bins.each[int(np.argmax(inside))]
    value = float(inside.max())
    return {"worst_bin_bits": value, "worst_bin": f"{worst.first}–{worst.last}"}


def leak(log_p: np.ndarray, log_q: np.ndarray, outcome: np.ndarray, weight: np.ndarray) -> Numbers:
    """Whether the model has seen what it predicts. With q_o / p_o of the drawn outcome o and

        e_b = Σ_p w_bp q_o / p_o ÷ Σ_p w_bp,

    every e_b has mean at most 1 for a model that sees no more than the exact reasoner, since E_p[q_o / p_o] ≤ 1. So
    Π e_b > 10⁶ has a probability below 10⁻⁶ without a leak, by Markov's inequality and no normal approximation.
    """
    drawn_BP1 = outcome[..., None]
    log_q_BP, log_p_BP = (
        np.take_along_axis(of, drawn_BP1, axis=-1)[..., 0].astype(np.float64) for of in (log_q, log_p)
    )
    with np.errstate(invalid="ignore"):  # where nothing is scored, the outcome may be impossible
        log_ratio_BP = np.where(weight > 0, log_q_BP - log_p_BP, 0.0)
    counts_B = weight.sum(axis=1) > 0
    with np.errstate(divide="ignore"):
        log_weight_BP = np.log(weight.astype(np.float64))
    with np.errstate(invalid="ignore"):
        log_e_B = np.logaddexp.reduce((log_weight_BP + log_ratio_BP)[counts_B], axis=1)
    evidence = float((log_e_B - np.logaddexp.reduce(log_weight_BP[counts_B], axis=1)).sum() / math.log(10))
    return {"leak": math.isfinite(evidence) and evidence > LEAK, "leak_log10": evidence}


def headroom_curve(bins: Bins, curves: Curves) -> np.ndarray:
    """Per bin, the smallest KL of any baseline that sees less than everything there."""

    gaps = {key.removeprefix("baseline/"): curve for key, curve in curves.items() if key.startswith("baseline/")}

    def sees_less(name: str, first: int) -> bool:
        return not first <= window(name, bins.horizon) < math.inf

    return np.asarray(
        [min(gaps[name][i] for name in lesser(gaps) if sees_less(name, b.first)) for i, b in enumerate(bins.each)]
    )


def lesser(names: Iterable[str], horizon: int | None = None) -> list[str]:
    """The baselines that know less than the exact reasoner: past the horizon, or within it, where one that sees a
    horizon sees everything.
    """
    return [name for name in names if name != ORACLE and (horizon is None or window(name, horizon) != horizon)]


def convergence(curves: Curves, settled: float, limit_bits: float | None) -> Numbers:
    """The first position from which the mean entropy stays within δ of the exact reasoner's limit: its closed form,
    else the mean over its last octave. `convergence` says why there is none: `not converged`, its last two octaves
    differ by more than δ; `not resolved`, the standard error of a bin is larger than δ; `too short`, less than two
    octaves were evaluated.
    """
    first, last = curves["first"], curves["last"]
    entropy = curves["entropy_bits_exact"]
    nothing = {"convergence_length": None, "convergence_length_exact": None}
    if limit_bits is None:
        octave = [first > last[-1] / 2, (first > last[-1] / 4) & (first <= last[-1] / 2)]
        if not (octave[0].any() and octave[1].any()):
            return {**nothing, "convergence": "too short"}
        limit_bits = float(entropy[octave[0]].mean())
        if abs(limit_bits - entropy[octave[1]].mean()) > settled:
            return {**nothing, "convergence": "not converged"}

    def since(name: str) -> tuple[int | None, str]:
        entropy, error = curves[name], curves[f"{name}_se"]
        outside = np.flatnonzero(~(np.abs(entropy - limit_bits) <= settled))
        start = outside[-1] + 1 if len(outside) else 0
        if start == len(first):
            return None, "not converged"
        return (None, "not resolved") if (error > settled).any() else (int(first[start]), "converged")

    exact, _ = since("entropy_bits_exact")
    model, why = since("entropy_bits")
    return {"convergence_length": model, "convergence_length_exact": exact, "convergence": why}


def equivalent_memory(memory: dict[float, float], kl: float) -> Numbers:
    """The smallest window w whose reasoner is at least as close as the model; censored above the largest."""
    enough = [w for w, gap in sorted(memory.items()) if gap <= kl]
    return {
        "equivalent_memory": enough[0] if enough else max(memory, default=None),
        "equivalent_memory_censored": not enough,
    }


def recursing(memory: dict[float, float], numbers: Numbers, tolerance: float) -> bool | None:
    """Whether the model remembers more than the last 8 observations; None where these say all there is, to within τ."""
    if memory.get(WINDOW, 0.0) <= tolerance:
        return None
    return numbers["equivalent_memory"] > WINDOW or numbers["equivalent_memory_censored"]


def window(name: str, horizon: int) -> float:
    """How many observations a baseline sees: w for `last-w`, `cut-w` and `cues-w`, 0 for `prior`, ∞ for one that sees
    all in another way.
    """
    if name == "prior":
        return 0
    kind, _, seen = name.partition("-")
    if kind not in ("last", "cut", "cues"):
        return math.inf
    return horizon if seen == "horizon" else int(seen)


def finite(value: Any) -> Any:
    """For JSON: None in place of a number that is none, or is infinite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value

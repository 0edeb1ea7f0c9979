"""The comparator: how far a model's predictive lies from the exact one, in bits, and what follows from it.

Plain numpy in float64. Log-probabilities come in as nats, everything goes out in bits. B examples, P positions.
"""

import math
from typing import Any

import numpy as np

from windtunnel.bins import Bins
from windtunnel.information import entropy_bits, js_bits, kl_bits, total_variation
from windtunnel.problem import Exact, Problem

Numbers = dict[str, Any]
Curves = dict[str, np.ndarray]

PROVES = 10  # a bin proves something where its headroom is at least this many tolerances
LEAK = 6  # log₁₀ of the evidence from which on a model is said to have seen what it predicts
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


def mean_and_error(values: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Weighted mean of [B, P] and its standard error over the B examples (which are independent; positions are not).

    The linearised ratio estimator: with r_b = Σ_p w_bp (x_bp − mean), SE = √(B/(B−1) Σ_b r_b²) / Σ w.
    """
    total = weight.sum()
    if total == 0:
        return math.nan, math.nan
    mean = (weight * values).sum() / total
    if not np.isfinite(mean):
        return float(mean), math.nan
    residual = (weight * (values - mean)).sum(axis=1)
    examples = len(residual)
    return float(mean), float(np.sqrt(examples / (examples - 1) * (residual**2).sum()) / total)


def verdict(problem: Problem, exact: Exact, log_q: np.ndarray) -> tuple[Numbers, Curves]:
    """The verdict on a model that says `log_q` (nats, [B, P, V]) of a problem's evaluation sequences, and its curves
    over bins. `exact` are the exact answers, as numpy arrays.

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
    less = [name for name in gaps if window(name, bins.horizon) != bins.horizon]  # which is everything in range
    numbers["headroom_bits"] = min(means[name][0] for name in less)
    numbers["headroom_bits_past"] = min(past for _, past in means.values())

    numbers |= extrapolation(bins, curves["kl_bits"], curves["kl_bits_se"], numbers["kl_bits"], evaluate.tolerance)
    numbers |= convergence(curves, evaluate.settled, problem.tunnel.limit_bits)
    memory = {window(name, bins.horizon): pair[bool(bins.beyond)] for name, pair in means.items()}
    memory = {w: gap for w, gap in memory.items() if 0 < w < math.inf}
    numbers |= equivalent_memory(memory, numbers["kl_bits_past" if bins.beyond else "kl_bits"])
    numbers["recursing"] = recursing(memory, numbers, evaluate.tolerance) if problem.tunnel.recursive else None
    numbers |= leak(log_p, log_q, exact.outcome, weight)
    numbers["verdict"] = in_words(bins, curves, numbers, evaluate.tolerance)
    return {key: finite(value) for key, value in numbers.items()}, curves


def leak(log_p: np.ndarray, log_q: np.ndarray, outcome: np.ndarray, weight: np.ndarray) -> Numbers:
    """Whether the model has seen what it predicts. With q_o / p_o of the drawn outcome o and

        e_b = Σ_p w_bp q_o / p_o ÷ Σ_p w_bp,

    every e_b has mean at most 1 for a model that sees no more than the exact reasoner, since E_p[q_o / p_o] ≤ 1. So
    Π e_b > 10⁶ has a probability below 10⁻⁶ without a leak, by Markov's inequality and no normal approximation.
    """
    log_ratio_BP = np.take_along_axis(log_q - log_p, outcome[..., None], axis=-1)[..., 0].astype(np.float64)
    counts_B = weight.sum(axis=1) > 0
    with np.errstate(divide="ignore"):
        log_weight_BP = np.log(weight.astype(np.float64))
    log_e_B = np.logaddexp.reduce((log_weight_BP + log_ratio_BP)[counts_B], axis=1)
    evidence = float((log_e_B - np.logaddexp.reduce(log_weight_BP[counts_B], axis=1)).sum() / math.log(10))
    return {"leak": evidence > LEAK, "leak_log10": evidence if math.isfinite(evidence) else None}


def curve(bins: Bins, values: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error of [B, P] in every bin."""
    at = [bins.number_P == i for i in range(len(bins.each))]
    pairs = [mean_and_error(values[:, here], weight[:, here]) for here in at]
    return np.asarray([mean for mean, _ in pairs]), np.asarray([error for _, error in pairs])


def headroom_curve(bins: Bins, curves: Curves) -> np.ndarray:
    """Per bin, the smallest KL of any baseline that sees less than everything there."""

    gaps = {key.removeprefix("baseline/"): curve for key, curve in curves.items() if key.startswith("baseline/")}

    def sees_less(name: str, first: int) -> bool:
        return not first <= window(name, bins.horizon) < math.inf

    return np.asarray(
        [min(gap[i] for name, gap in gaps.items() if sees_less(name, b.first)) for i, b in enumerate(bins.each)]
    )


def extrapolation(bins: Bins, mean: np.ndarray, error: np.ndarray, in_range: float, tolerance: float) -> Numbers:
    """Critical length: the largest L such that every bin past the horizon up to L holds (mean − 2 SE ≤ τ).

    Defined only where the mean in range is at most τ; censored where every bin holds.
    """
    if not in_range <= tolerance:
        return {"critical_length": None, "extrapolation_ratio": None, "censored": None}
    length, censored = bins.horizon, True
    for i in bins.beyond:
        if not mean[i] - 2 * error[i] <= tolerance:
            censored = False
            break
        length = bins.each[i].last
    return {
        "critical_length": length,
        "extrapolation_ratio": length / bins.horizon,
        "censored": censored and bool(bins.beyond),
    }


def convergence(curves: Curves, settled: float, limit_bits: float | None) -> Numbers:
    """The first position from which the mean entropy stays within δ of the exact reasoner's limit: its closed form,
    else the mean over its last octave, provided that its last two octaves agree within δ.
    """
    first, last = curves["first"], curves["last"]
    entropy = curves["entropy_bits_exact"]
    if limit_bits is None:
        octave = [first > last[-1] / 2, (first > last[-1] / 4) & (first <= last[-1] / 2)]
        if not (octave[0].any() and octave[1].any()):
            return {"convergence_length": None, "convergence_length_exact": None}
        limit_bits = float(entropy[octave[0]].mean())
        if abs(limit_bits - entropy[octave[1]].mean()) > settled:
            return {"convergence_length": None, "convergence_length_exact": None}

    def since(entropy: np.ndarray) -> int | None:
        outside = np.flatnonzero(~(np.abs(entropy - limit_bits) <= settled))
        start = outside[-1] + 1 if len(outside) else 0
        return int(first[start]) if start < len(first) else None

    return {"convergence_length": since(curves["entropy_bits"]), "convergence_length_exact": since(entropy)}


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


def in_words(bins: Bins, curves: Curves, numbers: Numbers, tolerance: float) -> str:
    """The verdict in a few words. A bin proves something where its headroom is at least 10 τ; what merely holds
    is `vacuous`.

    `leak` (it predicts drawn outcomes better than exact inference can) · `fails in range` · `exact in range` (nothing
    past the horizon was asked) · `extrapolates` (holds to the reach) · `extrapolates in part` (holds where that proves
    something, then fails) · `stops near the horizon` (fails before any such place). Where a recursion is called for and
    not found, `not recursing` is added.
    """
    if numbers["leak"]:
        return "leak"
    recursing = "; not recursing" if numbers["recursing"] is False else ""
    return _outcome(bins, curves, numbers, tolerance) + recursing


def _outcome(bins: Bins, curves: Curves, numbers: Numbers, tolerance: float) -> str:
    if numbers["critical_length"] is None:
        return "fails in range"
    held = [i for i in bins.beyond if bins.each[i].last <= numbers["critical_length"]]
    rests_on = held if bins.beyond else slice(None)
    proven = curves["headroom_bits"][rests_on].max(initial=0) >= PROVES * tolerance
    if not bins.beyond:
        return "exact in range" if proven else "vacuous"
    if numbers["censored"]:
        return "extrapolates" if proven else "vacuous"
    return "extrapolates in part" if proven else "stops near the horizon"


def window(name: str, horizon: int) -> float:
    """How many observations a baseline sees: w for `last-w`, 0 for `prior`, ∞ for one that sees all in another way."""
    if name == "prior":
        return 0
    seen = name.removeprefix("last-")
    return math.inf if seen == name else horizon if seen == "horizon" else int(seen)


def finite(value: Any) -> Any:
    """For JSON: None in place of a number that is none."""
    return None if isinstance(value, float) and math.isnan(value) else value

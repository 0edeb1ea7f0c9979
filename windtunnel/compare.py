"""The comparator: how far a model's predictive lies from the exact one, in bits, and what follows from it.

Plain numpy in float64. Log-probabilities come in as nats, everything goes out in bits. B examples, P positions.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from windtunnel.bins import Bin

Numbers = dict[str, Any]
Curves = dict[str, np.ndarray]

PROVES = 10  # a bin proves something where its headroom is at least this many tolerances
WINDOW = 8  # observations: a model that is no better than a reasoner with so few does not recurse


def kl_bits(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """KL(p ‖ q) = Σ_v p_v (log₂ p_v − log₂ q_v) over the last axis; outcomes with p = 0 add nothing."""
    log_p, log_q = log_p.astype(np.float64), log_q.astype(np.float64)
    possible = log_p > -np.inf
    with np.errstate(invalid="ignore"):
        terms = np.where(possible, np.exp(log_p) * (log_p - log_q), 0.0)
    return terms.sum(axis=-1) / math.log(2)


def entropy_bits(log_p: np.ndarray) -> np.ndarray:
    """H(p) = −Σ_v p_v log₂ p_v over the last axis."""
    log_p = log_p.astype(np.float64)
    return -np.where(log_p > -np.inf, np.exp(log_p) * np.maximum(log_p, -1e30), 0.0).sum(axis=-1) / math.log(2)


def divergences(log_p: np.ndarray, log_q: np.ndarray) -> Curves:
    """{metric: [B, P]} for the exact p and the model's q, both [B, P, V] in nats.

    `kl_bits`; `js_bits` = ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = (p + q)/2; `tv` = ½ Σ |p − q|;
    `entropy_gap_bits` = |H(q) − H(p)|; `impossible_mass` = the mass of q where p = 0.
    """
    log_m = np.logaddexp(log_p.astype(np.float64), log_q.astype(np.float64)) - math.log(2)
    p, q = np.exp(log_p.astype(np.float64)), np.exp(log_q.astype(np.float64))
    return {
        "kl_bits": kl_bits(log_p, log_q),
        "js_bits": (kl_bits(log_p, log_m) + kl_bits(log_q, log_m)) / 2,
        "tv": np.abs(p - q).sum(axis=-1) / 2,
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


class Binned(NamedTuple):
    """The scored positions of a study: [P] bin number, and how a mean over each range weighs them."""

    bins: list[Bin]
    horizon: int

    @property
    def number_P(self) -> np.ndarray:
        return np.concatenate([np.full(len(b.at), i) for i, b in enumerate(self.bins)])

    @property
    def inside_P(self) -> np.ndarray:
        """Weights of the mean in range: over all positions alike, so each stands for its share of its bin."""
        shares = [(b.last - b.first + 1) / len(b.at) * (b.last <= self.horizon) for b in self.bins]
        return np.asarray(shares)[self.number_P]

    @property
    def past_P(self) -> np.ndarray:
        """Weights of the mean past the horizon: over all bins alike, so that no octave drowns the others."""
        shares = [(b.first > self.horizon) / len(b.at) for b in self.bins]
        return np.asarray(shares)[self.number_P]

    @property
    def beyond(self) -> list[int]:
        """The bins past the horizon."""
        return [i for i, b in enumerate(self.bins) if b.first > self.horizon]

    def curve(self, values: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard error of [B, P] in every bin."""
        at = [self.number_P == i for i in range(len(self.bins))]
        pairs = [mean_and_error(values[:, here], weight[:, here]) for here in at]
        return np.asarray([mean for mean, _ in pairs]), np.asarray([error for _, error in pairs])


def compare(
    binned: Binned,
    log_p: np.ndarray,
    log_q: np.ndarray,
    baselines: dict[str, np.ndarray],
    weight: np.ndarray,
    tolerance: float,
    settled: float,
    limit_bits: float | None = None,
    log_full: np.ndarray | None = None,
    recursive: bool = False,
) -> tuple[Numbers, Curves]:
    """The verdict on one study, and its curves over bins. Arrays are [B, P, V] nats and [B, P] weights.

    Where the data come from a pool, p knows it; `log_full` is what the reasoner says that knows only the prior.
    `recursive`: the exact posterior is a recursion, whose steps must be carried on from one observation to the next.
    """
    metrics = divergences(log_p, log_q)
    if log_full is not None:
        metrics |= {"kl_bits_pool": metrics["kl_bits"], "kl_bits_full": kl_bits(log_full, log_q)}
    entropies = {"entropy_bits": entropy_bits(log_q), "entropy_bits_exact": entropy_bits(log_p)}
    names = sorted(baselines, key=lambda name: (window(name, binned.horizon), name))
    gaps = {name: kl_bits(log_p, baselines[name]) for name in names}
    inside, past = weight * binned.inside_P, weight * binned.past_P

    numbers: Numbers = {}
    curves: Curves = {
        "first": np.asarray([b.first for b in binned.bins]),
        "last": np.asarray([b.last for b in binned.bins]),
    }
    for name, values in {**metrics, **entropies}.items():
        curves[name], curves[f"{name}_se"] = binned.curve(values, weight)
    for name, values in gaps.items():
        curves[f"baseline/{name}"], _ = binned.curve(values, weight)
    for name, values in metrics.items():
        numbers[name], numbers[f"{name}_se"] = mean_and_error(values, inside)
        numbers[f"{name}_past"], numbers[f"{name}_past_se"] = mean_and_error(values, past)

    curves["headroom_bits"] = headroom_curve(binned, curves)
    means = {name: [mean_and_error(gap, where)[0] for where in (inside, past)] for name, gap in gaps.items()}
    numbers["baselines"] = {name: {"kl_bits": a, "kl_bits_past": _or_none(b)} for name, (a, b) in means.items()}
    less = [name for name in gaps if window(name, binned.horizon) != binned.horizon]  # which is everything in range
    numbers["headroom_bits"] = min(means[name][0] for name in less)
    numbers["headroom_bits_past"] = min(past for _, past in means.values())

    numbers |= extrapolation(binned, curves["kl_bits"], curves["kl_bits_se"], numbers["kl_bits"], tolerance)
    numbers |= convergence(binned, curves, settled, limit_bits)
    memory = {window(name, binned.horizon): pair[bool(binned.beyond)] for name, pair in means.items()}
    memory = {w: gap for w, gap in memory.items() if 0 < w < math.inf}
    numbers |= equivalent_memory(memory, numbers["kl_bits_past" if binned.beyond else "kl_bits"])
    numbers["recursing"] = recursing(memory, numbers, tolerance) if recursive else None
    numbers["verdict"] = verdict(binned, curves, numbers, tolerance)
    return {key: _or_none(value) for key, value in numbers.items()}, curves


def headroom_curve(binned: Binned, curves: Curves) -> np.ndarray:
    """Per bin, the smallest KL of any baseline that sees less than everything there."""

    gaps = {key.removeprefix("baseline/"): curve for key, curve in curves.items() if key.startswith("baseline/")}

    def sees_less(name: str, first: int) -> bool:
        return not first <= window(name, binned.horizon) < math.inf

    return np.asarray(
        [min(gap[i] for name, gap in gaps.items() if sees_less(name, b.first)) for i, b in enumerate(binned.bins)]
    )


def extrapolation(binned: Binned, mean: np.ndarray, error: np.ndarray, in_range: float, tolerance: float) -> Numbers:
    """Critical length: the largest L such that every bin past the horizon up to L holds (mean − 2 SE ≤ τ).

    Defined only where the mean in range is at most τ; censored where every bin holds.
    """
    if not in_range <= tolerance:
        return {"critical_length": None, "extrapolation_ratio": None, "censored": None}
    length, censored = binned.horizon, True
    for i in binned.beyond:
        if not mean[i] - 2 * error[i] <= tolerance:
            censored = False
            break
        length = binned.bins[i].last
    return {
        "critical_length": length,
        "extrapolation_ratio": length / binned.horizon,
        "censored": censored and bool(binned.beyond),
    }


def convergence(binned: Binned, curves: Curves, settled: float, limit_bits: float | None) -> Numbers:
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


def verdict(binned: Binned, curves: Curves, numbers: Numbers, tolerance: float) -> str:
    """In a few words. A bin proves something where its headroom is at least 10 τ; what merely holds is `vacuous`.

    `fails in range` · `exact in range` (nothing past the horizon was asked) · `extrapolates` (holds to the reach) ·
    `extrapolates in part` (holds where that proves something, then fails) · `stops near the horizon` (fails before any
    such place). Where a recursion is called for and not found, `not recursing` is added.
    """
    told = "; not recursing" if numbers["recursing"] is False else ""
    return _outcome(binned, curves, numbers, tolerance) + told


def _outcome(binned: Binned, curves: Curves, numbers: Numbers, tolerance: float) -> str:
    if numbers["critical_length"] is None:
        return "fails in range"
    held = [i for i in binned.beyond if binned.bins[i].last <= numbers["critical_length"]]
    rests_on = held if binned.beyond else slice(None)
    proven = curves["headroom_bits"][rests_on].max(initial=0) >= PROVES * tolerance
    if not binned.beyond:
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


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value

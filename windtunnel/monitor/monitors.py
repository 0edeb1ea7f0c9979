"""The monitors: what each measures of a check, and what it says.

Two classes. Those that need the `oracle` are for wind tunnels; the others could watch a model in production, whose
exact posterior nobody knows. A monitor is a function of a check, beside the same of an exact model, where that is
known; the same function of an untrained model is its null. Orthogonality and coverage are those of the best head, as
`instruments/geometry.py` has them.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from windtunnel.compare import convergence as converged
from windtunnel.config import Study
from windtunnel.decide import curve, mean_and_error
from windtunnel.health import Monitor as Thresholds
from windtunnel.information import drift_bits, entropy_bits, kl_bits, spread_bits
from windtunnel.instruments.geometry import directions, orthogonality, separation
from windtunnel.monitor.costs import Costs
from windtunnel.monitor.look import Asked, Exchanged, Seen

GOOD, WARNS, FAILS, NONE = "good", "warns", "fails", "does not apply"
SLACK, FACTOR = 0.2, 10.0  # from the threshold to where a monitor fails: of what lies in [0, 1], and of all else


class Check(NamedTuple):
    """What a check looked at, as numpy arrays of the host."""

    study: Study
    asked: Asked
    seen: Seen
    exchanged: Exchanged | None
    costs: Costs | None
    not_finite: int  # numbers among the parameters
    before: float | None  # tokens to convergence at the check before

    @property
    def curves(self) -> dict[str, np.ndarray]:
        """KL and entropies over bins."""
        bins, asked, log_q = self.study.problem.bins, self.asked, self.seen.log_q_BPV
        curves = {name: np.asarray([getattr(b, name) for b in bins.each]) for name in ("first", "last")}
        curves["kl_bits"] = curve(bins, kl_bits(asked.log_p_BPV, log_q), asked.weight_BP)[0]
        for name, of in (("entropy_bits", log_q), ("entropy_bits_exact", asked.log_p_BPV)):
            curves[name] = curve(bins, entropy_bits(of), asked.weight_BP)[0]
            curves[f"{name}_se"] = np.zeros(len(bins.each))
        return curves

    def in_range(self, values_BP: np.ndarray) -> float:
        return mean_and_error(values_BP, self.asked.weight_BP * self.study.problem.bins.inside_P)[0]

    def past(self, values_BP: np.ndarray) -> float:
        return mean_and_error(values_BP, self.asked.weight_BP * self.study.problem.bins.past_P)[0]


Measure = Callable[[Check], float | None]


class Monitor(NamedTuple):
    """`more`: whether more is better. `exact` is what the measure is of an exact model, None where that is not known
    or can be anything.
    """

    name: str
    words: str
    measure: Measure
    exact: Measure
    oracle: bool = False
    more: bool = False

    def threshold(self, check: Check) -> float | None:
        if self.name == "convergence":
            return check.before
        return float(getattr(check.study.monitor, self.name, 0.0))

    def state(self, value: float | None, threshold: float | None) -> str:
        """`good` up to the threshold, `fails` beyond 0.2 of it, or ten times of what is no share; `warns` between."""
        if value is None or (threshold is None and self.name == "convergence"):
            return NONE
        assert threshold is not None
        if not math.isfinite(value):
            return FAILS
        if value >= threshold if self.more else value <= threshold:
            return GOOD
        if self.name in SHARES:
            return WARNS if abs(value - threshold) <= SLACK + 1e-9 else FAILS
        near = value >= threshold / FACTOR if self.more else value <= threshold * FACTOR
        return WARNS if near and threshold else FAILS


def orthogonal(check: Check, of: str = "score") -> float | None:
    frame = check.asked.frame
    if frame is None or not check.seen.keys:
        return None
    if not all(np.isfinite(k_BNHd).all() for k_BNHd in check.seen.keys.values()):
        return math.nan
    horizon = next(iter(check.seen.keys.values())).shape[2]
    frame = replace(frame, label_BT=np.asarray(frame.label_BT)[:, :horizon])
    rows = [
        orthogonality(directions(k_BNHd[:, head].astype(np.float64), frame))
        for k_BNHd in check.seen.keys.values()
        for head in range(k_BNHd.shape[1])
    ]
    return max(rows, key=lambda row: row["score"])[of]


def apart(of: Callable[[Check, str], float | None]) -> Measure:
    """1 − RMS cosine, of which `score` is relative to what the Welch bound leaves."""

    def measure(check: Check) -> float | None:
        rms = of(check, "rms_cos")
        return None if rms is None else 1 - rms

    return measure


def codes(check: Check, of: str = "score") -> float | None:
    """Of the codes that the data give to hypotheses (`recall`): the keys of a head that is the posterior, in as many
    dimensions as the head has, since the Welch bound is a matter of these.
    """
    frame, keys = check.asked.frame, check.seen.keys
    if frame is None or frame.codes_BTd is None or not keys:
        return None
    horizon, width = next(iter(keys.values())).shape[2:]
    codes_BHd = np.asarray(frame.codes_BTd)[:, :horizon]
    wider = np.zeros((*codes_BHd.shape[:2], max(0, width - codes_BHd.shape[2])))
    return orthogonality(np.concatenate([codes_BHd, wider], axis=-1))[of]


def domains(check: Check) -> float | None:
    if check.asked.log_domains_BPK is None:
        return None
    if not np.isfinite(check.seen.residual_BPD).all():
        return math.nan
    return separation(check.seen.residual_BPD.astype(np.float64), check.asked.log_domains_BPK)


def kl(check: Check) -> float:
    return check.in_range(kl_bits(check.asked.log_p_BPV, check.seen.log_q_BPV))


def ratio(check: Check) -> float | None:
    """The last observation before the first bin past the horizon whose mean KL is above τ, ÷ horizon: 0 where KL is
    above τ in range. None where the evaluated length ends before the threshold, and nothing fails.
    """
    problem = check.study.problem
    if not problem.bins.beyond:
        return None
    if not kl(check) <= problem.evaluate.tolerance:
        return 0.0
    means = check.curves["kl_bits"]
    failing = [i for i in problem.bins.beyond if not means[i] <= problem.evaluate.tolerance]
    reached = (problem.bins.each[failing[0]].first - 1 if failing else problem.length) / problem.horizon
    return reached if failing or reached >= check.study.monitor.extrapolation_ratio else None


def tokens_to_convergence(check: Check, of: str = "convergence_length") -> float | None:
    """Without errors of bins: the sequences are the same at every check."""
    return converged(check.curves, check.study.evaluate.settled, check.study.tunnel.limit_bits)[of]


def orders(check: Check) -> float | None:
    """E_r KL(q_r ‖ mean of q_r) over orders r of the same observations."""
    return None if check.exchanged is None else float(spread_bits(check.exchanged.log_orders_RBV).mean())


def drift(check: Check) -> float | None:
    """KL(q_t ‖ Σ_x q_t(x) q_{t+1}(· | x)): 0 for a martingale, which every exchangeable predictive is."""
    return None if check.exchanged is None else float(drift_bits(*check.exchanged[1:]).mean())


def attends(name: str) -> Measure:
    return lambda check: None if getattr(check.seen, name) is None else check.in_range(getattr(check.seen, name))


def asks(name: str) -> Measure:
    return lambda check: None if getattr(check.asked, name) is None else check.in_range(getattr(check.asked, name))


def largest(of: Any, check: Check) -> float | None:
    values = of.largest_BP
    inside = check.asked.weight_BP * check.study.problem.bins.inside_P > 0
    return None if values is None or not inside.any() else float(values[inside].max())


def of_costs(name: str) -> Measure:
    return lambda check: None if check.costs is None else getattr(check.costs, name)


def nothing(check: Check) -> None:
    return None


def zero(check: Check) -> float:
    return 0.0


SHARES = ("orthogonality", "orthogonality_rms", "coverage", "separation")
MONITORS = (
    Monitor("kl_bits", "KL to the exact posterior in range, bits", kl, zero, oracle=True),
    Monitor("extrapolation_ratio", "length up to which KL holds ÷ horizon", ratio,
            lambda check: check.study.problem.length / check.study.horizon, oracle=True, more=True),
    Monitor("convergence", "tokens to convergence, against the check before", tokens_to_convergence,
            lambda check: tokens_to_convergence(check, "convergence_length_exact"), oracle=True),
    Monitor("separation", "separation of domains", domains, nothing, oracle=True, more=True),
    Monitor("orthogonality", "orthogonality of keys", orthogonal, codes, more=True),
    Monitor("orthogonality_rms", "1 − RMS cosine of keys", apart(orthogonal), apart(codes), more=True),
    Monitor("coverage", "hypotheses with a key of their own", lambda check: orthogonal(check, "coverage"),
            lambda check: codes(check, "coverage"), more=True),
    Monitor("entropy_bits", "entropy of attention, bits", attends("entropy_BP"), asks("entropy_BP"), more=True),
    Monitor("largest_logit", "largest score above its row's mean", lambda check: largest(check.seen, check),
            lambda check: largest(check.asked, check)),
    Monitor("missed", "mass that an approximation misses",
            lambda check: None if check.seen.missed_B is None else float(np.mean(check.seen.missed_B)), zero),
    Monitor("order_bits", "spread over orders of the same observations, bits", orders, zero),
    Monitor("drift_bits", "drift of the predictive as a martingale, bits", drift, zero),
    Monitor("not_finite", "parameters that are no numbers", lambda check: float(check.not_finite), zero),
    Monitor("cost_exponent", "exponent of time in the length", of_costs("exponent"), nothing),
    Monitor("memory_exponent", "exponent of memory in the length", of_costs("memory"), nothing),
    Monitor("latency_ms", "milliseconds a token at the longest length", of_costs("latency_ms"), nothing),
)  # fmt: skip
assert {m.name for m in MONITORS} - {"convergence", "not_finite"} <= set(Thresholds.__dataclass_fields__)


def readings(check: Check, null: Check | None) -> dict[str, dict[str, Any]]:
    """{monitor: value, threshold, state, null, exact}: a row of `health.jsonl`; None for what is not known."""
    rows = {}
    for monitor in MONITORS:
        threshold = monitor.threshold(check)
        value = _number(monitor.measure, check)
        rows[monitor.name] = {
            "value": _finite(value),
            "threshold": threshold,
            "state": monitor.state(value, threshold),
            "null": None if null is None else _finite(_number(monitor.measure, null)),
            "exact": None if value is None and monitor.exact is zero else _finite(_number(monitor.exact, check)),
        }
    return rows


def _number(measure: Measure, check: Check) -> float | None:
    with np.errstate(all="ignore"):
        value = measure(check)
    return None if value is None else float(value)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

"""What a model's KL decides: which bins hold, which fail and which stay open, and how far it goes before one fails.

With m the mean KL in a bin and s its standard error over sequences, a bin

    holds if m + z s ≤ τ,   fails if m − z s > τ or is not finite,   and is open otherwise,

z = 3.6: a bin exactly at τ is called wrongly once in 6,000 times, so that many bins, looked at several times while
sequences are added, are called wrongly once in a hundred verdicts or so. With fewer than 256 weighted samples a bin is
open. Added sequences decide bins and nothing else: means that are reported stay over the first ones, the same for all
studies, so that stopping biases nothing. `docs/verdicts.md` shows each rule on a model that the rule before it misread.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from windtunnel.bins import SAMPLES, Bins

Z = 3.6  # standard errors
PROVES = 10  # a bin proves something where its headroom is at least this many tolerances
OCTAVE = 2.0  # how far a run of bins must reach, as a ratio, to prove something
HOLDS, OPEN, FAILS = 1, 0, -1


def mean_and_error(values: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Weighted mean of [B, P] and its standard error over the B examples (which are independent; positions are not).

    The linearised ratio estimator: with r_b = Σ_p w_bp (x_bp − mean), SE = √(B/(B−1) Σ_b r_b²) / Σ w.
    """
    values, total = np.where(weight > 0, values, 0.0), weight.sum()
    if total == 0:
        return math.nan, math.nan
    mean = (weight * values).sum() / total
    if not np.isfinite(mean):
        return float(mean), math.nan
    residual = (weight * (values - mean)).sum(axis=1)
    examples = len(residual)
    return float(mean), float(np.sqrt(examples / (examples - 1) * (residual**2).sum()) / total)


def curve(bins: Bins, values: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error of [B, P] in every bin."""
    at = [bins.number_P == i for i in range(len(bins.each))]
    pairs = [mean_and_error(values[:, here], weight[:, here]) for here in at]
    return np.asarray([mean for mean, _ in pairs]), np.asarray([error for _, error in pairs])


def state(mean: float, error: float, samples: float, tolerance: float) -> int:
    """Whether a mean holds, fails or is open. A mean without a spread between sequences is taken at its word."""
    if samples > 0 and not math.isfinite(mean):
        return FAILS
    if samples < SAMPLES:
        return OPEN
    return HOLDS if mean + Z * error <= tolerance else FAILS if mean - Z * error > tolerance else OPEN


class Decision(NamedTuple):
    """Of all sequences that were drawn: the states of the bins, and of the mean in range."""

    bins: Bins
    states: list[int]
    in_range: int
    sequences: int

    @property
    def first_failing(self) -> int | None:
        """The first bin past the horizon that fails."""
        return next((i for i in self.bins.beyond if self.states[i] == FAILS), None)

    @property
    def failing_in_range(self) -> list[int]:
        """Bins within the horizon that surely fail."""
        return [i for i in self.bins.inside if self.states[i] == FAILS]

    @property
    def open(self) -> bool:
        """Whether something that decides is open: the mean in range, or, where that holds, a bin before the first that
        fails. More sequences would tell.
        """
        if self.in_range != HOLDS:
            return self.in_range == OPEN
        before = [i for i in self.bins.beyond if self.first_failing is None or i < self.first_failing]
        return any(self.states[i] == OPEN for i in before)

    def lengths(self) -> dict[str, Any]:
        """The critical length: the largest L such that no bin past the horizon up to L fails, and its interval, from
        before the first bin that is open or fails to before the first that fails. None where the mean in range fails.
        """
        if self.in_range == FAILS:
            names = "critical_length critical_length_low critical_length_high extrapolation_ratio censored"
            return dict.fromkeys(names.split())
        shaky = next((i for i in self.bins.beyond if self.states[i] != HOLDS), None)
        high, low = self._before(self.first_failing), self._before(shaky)
        return {
            "critical_length": high,
            "critical_length_low": low,
            "critical_length_high": high,
            "extrapolation_ratio": high / self.bins.horizon,
            "censored": bool(self.bins.beyond) and self.first_failing is None,
        }

    def _before(self, number: int | None) -> int:
        """The last observation before a bin, or of all."""
        if number is None:
            return self.bins.each[-1].last
        return self.bins.each[number].first - 1

    def proves(self, headroom_bits: np.ndarray, tolerance: float) -> bool:
        """Whether holding proves something: past the horizon a run of bins of at least an octave (or all there are)
        that hold and have a headroom of at least 10 τ each, before the first that fails.
        """
        headroom = headroom_bits >= PROVES * tolerance
        until = self.first_failing if self.first_failing is not None else len(self.states)
        beyond = [i for i in self.bins.beyond if i < until]
        if beyond == self.bins.beyond and all(self.states[i] == HOLDS and headroom[i] for i in beyond):
            return True
        start = None
        for i in beyond:
            if self.states[i] != HOLDS or not headroom[i]:
                start = None
                continue
            start = self.bins.each[i].first - 1 if start is None else start
            if self.bins.each[i].last >= OCTAVE * start:
                return True
        return False


def decide(bins: Bins, kl_bits: np.ndarray, weight: np.ndarray, tolerance: float) -> Decision:
    """From KL [B, P] of all sequences that were drawn, and the weights of their predictions."""
    means, errors = curve(bins, kl_bits, weight)
    samples = [weight[:, bins.number_P == i].sum() for i in range(len(bins.each))]
    states = [state(*of, tolerance) for of in zip(means, errors, samples, strict=True)]
    inside = weight * bins.inside_P
    counted = weight[:, bins.inside_P > 0].sum()
    return Decision(bins, states, state(*mean_and_error(kl_bits, inside), counted, tolerance), len(weight))


def outcome(decision: Decision, headroom_bits: np.ndarray, tolerance: float) -> str:
    """The verdict in a few words; `docs/verdicts.md` says what each means."""
    if decision.in_range == FAILS:
        return "fails in range"
    words = _outcome(decision, headroom_bits, tolerance)
    failing = [decision.bins.each[i] for i in decision.failing_in_range]
    if not failing:
        return words
    named = f"fails in range at {failing[0].first}–{failing[0].last}"
    return named if words in ("extrapolates", "exact in range", "vacuous", "open") else f"{words}; {named}"


def _outcome(decision: Decision, headroom_bits: np.ndarray, tolerance: float) -> str:
    beyond = decision.bins.beyond
    if decision.in_range == OPEN:
        return "open"
    if not beyond:
        return "exact in range" if headroom_bits.max(initial=0) >= PROVES * tolerance else "vacuous"
    proves = decision.proves(headroom_bits, tolerance)
    if decision.first_failing is not None:
        return "extrapolates in part" if proves else "stops near the horizon"
    if any(decision.states[i] == OPEN for i in beyond):
        return "open"
    return "extrapolates" if proves else "vacuous"

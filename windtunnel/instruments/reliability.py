"""How well probabilities do: calibration, sharpness and selection, from distributions and what came. Plain numpy.

A prediction is a distribution q [..., V]; its confidence is c = max_v q_v, that of its top outcome. N predictions are
flat, without those that do not count.
"""

from typing import NamedTuple

import numpy as np

BINS = 15  # of confidence, equally wide: those of Guo et al. 2017
COVERAGES = 20  # points of a risk–coverage curve


class Confidence(NamedTuple):
    """Of each prediction: its confidence, whether the top outcome came, and the exact probability that it would."""

    stated_N: np.ndarray
    drawn_N: np.ndarray
    exact_N: np.ndarray


def confidence(log_q_NV: np.ndarray, log_p_NV: np.ndarray, outcome_N: np.ndarray) -> Confidence:
    """The confidence of predictions q, where p is the exact predictive."""
    top_N1 = np.argmax(log_q_NV, axis=-1, keepdims=True)
    stated, exact = (
        np.exp(np.take_along_axis(of, top_N1, axis=-1)[:, 0].astype(np.float64)) for of in (log_q_NV, log_p_NV)
    )
    return Confidence(stated, (outcome_N == top_N1[:, 0]).astype(np.float64), exact)


def diagram(of: Confidence) -> dict[str, list[float]]:
    """The reliability diagram: for each bin of confidence that holds predictions, their `share`, and the means of their
    confidence (`stated`), of whether the top outcome came (`drawn`) and of its exact probability (`exact`).
    """
    bin_N = np.minimum((of.stated_N * BINS).astype(int), BINS - 1)
    held = [bin_N == index for index in range(BINS) if (bin_N == index).any()]
    means = {
        name: [float(values[where].mean()) for where in held]
        for name, values in zip(("stated", "drawn", "exact"), of, strict=True)
    }
    return {"share": [float(where.mean()) for where in held], **means}


def ece(diagram: dict[str, list[float]], against: str) -> float:
    """Σ_bins share × |mean confidence − mean of `against`|: the expected calibration error against what was `drawn`,
    whose sampling noise it contains, or against the `exact` probabilities.
    """
    return float(np.sum(np.asarray(diagram["share"]) * np.abs(np.subtract(diagram["stated"], diagram[against]))))


def risk(of: Confidence) -> np.ndarray:
    """[N]: the error to be expected, 1 − p(top outcome), among the n most confident predictions, n = 1 … N."""
    order_N = np.argsort(-of.stated_N, kind="stable")
    return np.cumsum(1 - of.exact_N[order_N]) / np.arange(1, len(order_N) + 1)


def at_coverages(risk_N: np.ndarray) -> dict[str, list[float]]:
    """The risk–coverage curve at a few coverages: who answers only where it is most confident errs so often."""
    share = np.arange(1, COVERAGES + 1) / COVERAGES
    index = np.maximum(np.ceil(share * len(risk_N)).astype(int) - 1, 0)
    return {"coverage": share.tolist(), "risk": risk_N[index].tolist()}


def brier(log_q_NV: np.ndarray, outcome_N: np.ndarray) -> float:
    """Mean Σ_v (q_v − 1[o = v])²."""
    q_NV = np.exp(log_q_NV.astype(np.float64))
    q_NV[np.arange(len(q_NV)), outcome_N] -= 1
    return float((q_NV**2).sum(axis=-1).mean())


def explained(x_BP: np.ndarray, y_BP: np.ndarray, counts_BP: np.ndarray) -> float:
    """R² of y on a parabola in x: least squares on the even sequences, judged on the odd ones."""
    fitted, judged = (counts_BP & (np.arange(len(x_BP)) % 2 == parity)[:, None] for parity in (0, 1))
    scale = max(float(np.abs(x_BP[fitted]).max(initial=0.0)), 1e-9)
    powers = np.vander(x_BP[fitted] / scale, 3)
    weights, *_ = np.linalg.lstsq(powers, y_BP[fitted], rcond=None)
    return _r2(y_BP[judged], np.vander(x_BP[judged] / scale, 3) @ weights)


def by_place(y_BP: np.ndarray, counts_BP: np.ndarray) -> float:
    """R² of the mean at each place, the most that position alone can say: of the even sequences, judged on the odd."""
    even_B = np.arange(len(y_BP)) % 2 == 0
    seen_P = np.maximum(counts_BP[even_B].sum(axis=0), 1)
    mean_P = np.where(counts_BP[even_B], y_BP[even_B], 0.0).sum(axis=0) / seen_P
    judged = counts_BP & ~even_B[:, None]
    return _r2(y_BP[judged], np.broadcast_to(mean_P, y_BP.shape)[judged])


def _r2(y_N: np.ndarray, predicted_N: np.ndarray) -> float:
    """1 − the mean square of what is left ÷ the variance; NaN where y does not vary."""
    variance = float(np.var(y_N)) if len(y_N) else 0.0
    return float(1 - np.mean((y_N - predicted_N) ** 2) / variance) if variance > 1e-12 else float("nan")

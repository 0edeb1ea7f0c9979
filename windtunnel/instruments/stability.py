"""Stability: how do prediction and attention decay with length ÷ horizon, and what fails first?

The decay curve of KL is in the records (`curves.npz`); `fits.py` fits its law and where it crosses τ. Attention is
measured at the lengths ¼, ½, 1, 2, 4, … horizons (`repair.py`): its entropy, the scale of its scores (their standard
deviation within a query), and *dilution*: the mass of attention on the right hypotheses, divided by the mass of the
exact posterior on them. The right hypotheses are the fewest that hold 90 % of the exact posterior. The nulls are a
constant KL, and the mass of uniform attention on the right hypotheses.

Repairs show what fails first. In a head whose content is close to c × log-likelihood over the horizon, position is
replaced by c × log-prior, content by c × log-likelihood, or both. The KL that the first repair removes is due to
*position*; the second, to *dilution* (wrong content, spread over more and more keys). The KL after both repairs is due
to *calibration*: to the layers after attention.
"""

import math

import numpy as np

from windtunnel import records
from windtunnel.instruments import consistency
from windtunnel.instruments.base import Json, Subject
from windtunnel.instruments.fits import fit
from windtunnel.instruments.repair import REPAIRS, far
from windtunnel.models.position import Uniform, per_layer

NEAR = 4  # observations averaged before each length
LINEAR = 0.5  # the R² of a head's content on the log-likelihood from which on the head is repaired


def refusal(subject: Subject) -> str | None:
    if subject.study.evaluate.reach <= 1:
        return "nothing past the horizon was evaluated; `windtunnel evaluate DIR reach=…` does"
    if subject.folder is None or not (subject.folder / "curves.npz").exists():
        return "needs the curves of a judged study"
    return None


def measure(subject: Subject) -> Json:
    """`decay`: the law of KL past the horizon and its crossing; `critical_length` by threshold, from the verdict;
    `attention`: measurements by length, with `repair` where scores can be split, and `first`, what fails first.
    """
    assert subject.folder is not None  # checked by `refusal`
    study, curves = subject.study, records.read_curves(subject.folder / "curves.npz")
    result = records.read_result(subject.folder)
    past = curves["first"] > study.horizon
    x = np.sqrt(curves["first"] * curves["last"].astype(float)) / study.horizon
    tolerance = study.evaluate.tolerance
    record: Json = {
        "decay": fit(x[past], curves["kl_bits"][past], curves["kl_bits_se"][past], tolerance),
        "critical_length": result["critical_length"],
        "censored": result["censored"],
        "attention": None,
    }
    if study.model.heads:
        record["attention"] = attention(subject, tolerance)
    return record


def lines(record: Json) -> list[str]:
    decay, sentences = record["decay"], []
    if decay["family"] is None:
        sentences.append("too few bins past the horizon for a fit")
    elif decay["family"] == "constant":
        sentences.append("KL does not change past the horizon (AIC prefers a constant)")
    else:
        sentences.append(
            f"KL past the horizon follows the {decay['family']} law (a constant is "
            f"{decay['aic'].get('constant', 0):.0f} AIC worse) and {crossing(decay)}"
        )
    length, more = record["critical_length"], " or more" if record["censored"] else ""
    sentences.append(f"by threshold: {'–' if length is None else length}{more} observations")
    attended = record["attention"]
    if attended is not None and attended["mass"] is not None:
        near, far_off = (attended["mass"][at][attended["head"]] for at in (attended["at_horizon"], -1))
        sentences.append(
            f"mass of head {attended['name']} on the right hypotheses, of the exact: {near:.2f} at the horizon, "
            f"{far_off:.2f} at {attended['x'][-1]:g} horizons (uniform attention {attended['uniform_mass'][-1]:.2g})"
        )
    if attended is not None and attended["repair"] is not None:
        kl = {name: f"{of[attended['judged']]:.2g}" for name, of in attended["repair"].items()}
        fails = f"{attended['first']} fails first" if attended["first"] else "nothing fails"
        sentences.append(
            f"at {attended['x'][attended['judged']]:g} horizons KL {kl['none']} bits; with position repaired "
            f"{kl['position']}, content {kl['dilution']}, both {kl['both']}: {fails}"
        )
    return sentences


def crossing(decay: Json) -> str:
    """Where the law crosses τ, as text."""
    where, low, high = (decay[name] for name in ("critical", "critical_low", "critical_high"))
    if where is None or math.isinf(where):
        return "never reaches τ"
    if where < 1:
        return "is above τ throughout"
    beyond = "" if decay["inside"] else ", beyond what was evaluated"
    return f"crosses τ at {where:.3g} [{low:.3g}, {high:.3g}] horizons{beyond}"


def headline(record: Json) -> dict[str, float | None]:
    attended = record["attention"]
    numbers: dict[str, float | None] = {"critical_fit": record["decay"].get("critical")}
    if attended is not None and attended["mass"] is not None:
        numbers |= {"mass_at_horizon": attended["mass"][attended["at_horizon"]][attended["head"]],
                  "mass_at_reach": attended["mass"][-1][attended["head"]]}  # fmt: skip
    if attended is not None and attended["repair"] is not None:
        numbers |= {f"kl_{name}": attended["repair"][name][attended["judged"]] for name in REPAIRS}
    return numbers


def attention(subject: Subject, tolerance: float) -> Json:
    """Every list is by length; `mass`, `entropy_bits` and `scale` have a number for each layer and head (flattened)."""
    study = subject.study
    steps = int(np.floor(np.log2(study.problem.length / study.horizon) + 1e-9))
    lengths = [study.horizon * 2**k for k in range(steps + 1)]
    lengths = [length for length in (study.horizon // 4, study.horizon // 2) if length >= 2 * NEAR] + lengths
    at = tuple(length - 1 - back for length in lengths for back in reversed(range(NEAR)))
    slopes = content_slopes(subject)
    measures: dict[str, np.ndarray] = {
        name: np.asarray(of, np.float64) for name, of in far(study, subject.params, at, slopes, subject.model).items()
    }

    def by_length(of: np.ndarray) -> np.ndarray:  # [B, P, …] → [lengths, …]
        return of.reshape(len(of), len(lengths), NEAR, *of.shape[2:]).mean(axis=(0, 2))

    record: Json = {
        "x": [length / study.horizon for length in lengths],
        "at_horizon": lengths.index(study.horizon),
        **{name: by_length(measures[name]) for name in ("entropy_bits", "scale")},
        **{name: by_length(measures[name]) if name in measures else None for name in ("mass", "uniform_mass")},
        "repair": None,
        "first": None,
    }
    if record["mass"] is not None:
        record["head"] = int(np.argmax(record["mass"][record["at_horizon"]]))
        record["name"] = "{}.{}".format(*divmod(record["head"], study.model.heads))
    if slopes is not None:
        kl = measures["kl_bits"]  # [B, P, repairs]
        mean = by_length(kl)
        error = kl.reshape(len(kl), len(lengths), -1, kl.shape[-1]).mean(axis=2).std(axis=0, ddof=1) / np.sqrt(len(kl))
        record["repair"] = {name: mean[:, i].tolist() for i, name in enumerate(REPAIRS)}
        fails = np.flatnonzero((mean - 2 * error)[:, 0] > tolerance)
        record["judged"] = int(fails[0]) if len(fails) else len(lengths) - 1
        none, position, dilution, both = mean[record["judged"]]
        shares = {"position": none - position, "dilution": none - dilution, "calibration": both}
        record["first"] = max(shares, key=lambda name: shares[name]) if len(fails) else None
    return record


def content_slopes(subject: Subject) -> np.ndarray | None:
    """[L, N]: the slope c of each head, NaN where its content is not linear in the log-likelihood; None where scores
    cannot be split into content and prior.
    """
    study = subject.study
    if study.tunnel.lag_prior is None or study.model.softmax != "plain" or study.position is None:
        return None
    if not all(
        position.has_bias or isinstance(position, Uniform) for position in per_layer(study.position, study.model.layers)
    ):
        return None
    rows = consistency.heads(study, subject.params, subject.seen)
    slopes = [row["content"]["slope"] if row["content"]["r2"] >= LINEAR else np.nan for row in rows]
    return np.asarray(slopes).reshape(-1, study.model.heads)

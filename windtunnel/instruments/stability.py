"""Stability: how do prediction and attention decay with length ÷ horizon, and what fails first?

The decay curve of KL is in the records (`curves.npz`); `fits.py` finds its law and where it crosses τ. Attention is
looked at again at the lengths ¼, ½, 1, 2, 4, … horizons (`repair.py`): its entropy, the scale of its scores (their
standard deviation within a query), and *dilution*: the mass on the right hypotheses, the fewest that hold 90 % of the
exact posterior, over what the exact posterior has there. The nulls are a constant KL, and the mass that uniform
attention has there.

What fails first is asked by repair. In a head whose content lies on a line c × log-likelihood over the horizon,
position is replaced by c × log-prior, content by c × log-likelihood, or both. The KL that the first takes away is
*position*'s, the second *dilution*'s (wrong content, spread over more and more keys), and what both leave is
*calibration*: of what comes after attention.
"""

import math

import numpy as np

from windtunnel import records
from windtunnel.instruments import consistency
from windtunnel.instruments.base import Json, Subject
from windtunnel.instruments.fits import fit
from windtunnel.instruments.repair import REPAIRS, far
from windtunnel.models.position import Uniform, per_layer

NEAR = 4  # observations looked at before each length
LINEAR = 0.5  # R² of a head's content on the log-likelihood, from which on it is repaired


def refusal(subject: Subject) -> str | None:
    if subject.study.evaluate.reach <= 1:
        return "nothing past the horizon was evaluated; `windtunnel evaluate DIR reach=…` does"
    if subject.folder is None or not (subject.folder / "curves.npz").exists():
        return "needs the curves of a judged study"
    return None


def measure(subject: Subject) -> Json:
    """`decay`: the law of KL past the horizon and its crossing; `critical_length` by threshold, from the verdict;
    `lengths` and, by length, what attention does; `repair`, where scores can be split, and `first`, what fails first.
    """
    assert subject.folder is not None  # `refusal` made sure
    study, curves = subject.study, records.read_curves(subject.folder / "curves.npz")
    result = records.read_json(subject.folder / "result.json")
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
    decay, said = record["decay"], []
    if decay["family"] is None:
        said.append("too few bins past the horizon for a fit")
    elif decay["family"] == "constant":
        said.append("KL does not change past the horizon (AIC prefers a constant)")
    else:
        said.append(
            f"KL past the horizon follows the {decay['family']} law (a constant is "
            f"{decay['aic'].get('constant', 0):.0f} AIC worse) and {crossing(decay)}"
        )
    length, more = record["critical_length"], " or more" if record["censored"] else ""
    said.append(f"by threshold: {'–' if length is None else length}{more} observations")
    found = record["attention"]
    if found is not None and found["mass"] is not None:
        near, far_off = (found["mass"][at][found["head"]] for at in (found["at_horizon"], -1))
        said.append(
            f"mass of head {found['name']} on the right hypotheses, of the exact: {near:.2f} at the horizon, "
            f"{far_off:.2f} at {found['x'][-1]:g} horizons (uniform attention {found['uniform_mass'][-1]:.2g})"
        )
    if found is not None and found["repair"] is not None:
        kl = {name: f"{of[found['judged']]:.2g}" for name, of in found["repair"].items()}
        fails = f"{found['first']} fails first" if found["first"] else "nothing fails"
        said.append(
            f"at {found['x'][found['judged']]:g} horizons KL {kl['none']} bits; with position repaired "
            f"{kl['position']}, content {kl['dilution']}, both {kl['both']}: {fails}"
        )
    return said


def crossing(decay: Json) -> str:
    """Where the law crosses τ, in words."""
    where, low, high = (decay[name] for name in ("critical", "critical_low", "critical_high"))
    if where is None or math.isinf(where):
        return "never reaches τ"
    if where < 1:
        return "is above τ throughout"
    beyond = "" if decay["inside"] else ", beyond what was evaluated"
    return f"crosses τ at {where:.3g} [{low:.3g}, {high:.3g}] horizons{beyond}"


def headline(record: Json) -> dict[str, float | None]:
    found = record["attention"]
    shown: dict[str, float | None] = {"critical_fit": record["decay"].get("critical")}
    if found is not None and found["mass"] is not None:
        shown |= {"mass_at_horizon": found["mass"][found["at_horizon"]][found["head"]],
                  "mass_at_reach": found["mass"][-1][found["head"]]}  # fmt: skip
    if found is not None and found["repair"] is not None:
        shown |= {f"kl_{name}": found["repair"][name][found["judged"]] for name in REPAIRS}
    return shown


def attention(subject: Subject, tolerance: float) -> Json:
    """Every list is by length; `mass`, `entropy_bits` and `scale` have one number a layer and head (flattened)."""
    study = subject.study
    steps = int(np.floor(np.log2(study.problem.length / study.horizon) + 1e-9))
    lengths = [study.horizon * 2**k for k in range(steps + 1)]
    lengths = [length for length in (study.horizon // 4, study.horizon // 2) if length >= 2 * NEAR] + lengths
    at = tuple(length - 1 - back for length in lengths for back in reversed(range(NEAR)))
    slopes = content_slopes(subject)
    shown: dict[str, np.ndarray] = {
        name: np.asarray(of, np.float64) for name, of in far(study, subject.params, at, slopes, subject.model).items()
    }

    def by_length(of: np.ndarray) -> np.ndarray:  # [B, P, …] → [lengths, …]
        return of.reshape(len(of), len(lengths), NEAR, *of.shape[2:]).mean(axis=(0, 2))

    made: Json = {
        "x": [length / study.horizon for length in lengths],
        "at_horizon": lengths.index(study.horizon),
        **{name: by_length(shown[name]) for name in ("entropy_bits", "scale")},
        **{name: by_length(shown[name]) if name in shown else None for name in ("mass", "uniform_mass")},
        "repair": None,
        "first": None,
    }
    if made["mass"] is not None:
        made["head"] = int(np.argmax(made["mass"][made["at_horizon"]]))
        made["name"] = "{}.{}".format(*divmod(made["head"], study.model.heads))
    if slopes is not None:
        kl = shown["kl_bits"]  # [B, P, repairs]
        mean = by_length(kl)
        error = kl.reshape(len(kl), len(lengths), -1, kl.shape[-1]).mean(axis=2).std(axis=0, ddof=1) / np.sqrt(len(kl))
        made["repair"] = {name: mean[:, i].tolist() for i, name in enumerate(REPAIRS)}
        fails = np.flatnonzero((mean - 2 * error)[:, 0] > tolerance)
        made["judged"] = int(fails[0]) if len(fails) else len(lengths) - 1
        none, position, dilution, both = mean[made["judged"]]
        shares = {"position": none - position, "dilution": none - dilution, "calibration": both}
        made["first"] = max(shares, key=lambda name: shares[name]) if len(fails) else None
    return made


def content_slopes(subject: Subject) -> np.ndarray | None:
    """[L, N]: c of each head, NaN where its content is no line over the log-likelihood; None where scores cannot be
    split into content and prior, or nobody knows how.
    """
    study = subject.study
    if study.tunnel.lag_prior is None or study.model.softmax != "plain" or study.position is None:
        return None
    if not all(one.has_bias or isinstance(one, Uniform) for one in per_layer(study.position, study.model.layers)):
        return None
    rows = consistency.heads(study, subject.params, subject.seen)
    slopes = [row["content"]["slope"] if row["content"]["r2"] >= LINEAR else np.nan for row in rows]
    return np.asarray(slopes).reshape(-1, study.model.heads)

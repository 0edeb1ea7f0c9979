"""What every tunnel must prove: each check is a deviation and the bound that it must keep.

In float64, on random small tunnels. Statistical checks state their level: a sound tunnel fails one in a million times.
"""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from windtunnel.information import kl
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch, Tunnel
from windtunnel.verify.brute import judges

EXACT = 1e-9
SIGMAS = 5.0  # five standard errors: one in a million
LEVEL = 1e-6
SAMPLES = 2000  # sequences for what is statistical
JUDGED = 2  # sequences for what is enumerated
SINGLE = 1e-4  # float32 against float64, in probability


class Check(NamedTuple):
    name: str
    deviation: float
    bound: float

    @property
    def passed(self) -> bool:
        return bool(self.deviation <= self.bound)


class Answers(NamedTuple):
    """All that a tunnel answers about its own sequences; log-probabilities in nats, [B, P, …]."""

    batch: Batch
    predictive: np.ndarray
    full: np.ndarray | None
    posterior: np.ndarray | None
    mixture: np.ndarray | None
    baselines: dict[str, np.ndarray]


@partial(jax.jit, static_argnums=(2, 3, 4, 5), compiler_options={"xla_backend_optimization_level": 0})
def answer(tunnel: Any, seed: Any, sequences: int, observations: int, horizon: int, listed: bool) -> Answers:
    """Compiled once for each structure, in haste: that takes longer than the answers. `listed`: whether hypotheses can
    be listed.
    """
    tables, at = tunnel.prepare(observations), jnp.arange(observations)
    batch = tunnel.sample(jax.random.key(seed), tables, sequences, observations)
    return Answers(
        batch,
        tunnel.log_predictive(tables, batch, at),
        tunnel.log_full_predictive(tables, batch, at) if tunnel.pool else None,
        tunnel.log_posterior(tables, batch, at) if listed else None,
        tunnel.log_mixture(tables, batch, at) if listed else None,
        tunnel.baselines(tables, batch, at, horizon),
    )


def checks(tunnel: Tunnel, observations: int, seed: int = 0) -> Iterator[Check]:
    """Every check of one tunnel, on its sequences of so many observations."""
    Brute = judges()[tunnel.name]  # type: ignore[attr-defined]
    horizon = max(1, observations - 1)
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        knobs = arrays(tunnel)
        answers = jax.tree.map(np.asarray, answer(knobs, seed, SAMPLES, observations, horizon, Brute.listed))
    yield Check("distributions sum to one", _sums(answers), EXACT)
    for name, deviation in _enumeration(Brute, tunnel, answers, horizon).items():
        yield Check(name, deviation, EXACT)
    if answers.mixture is not None:
        deviation = _apart(answers.predictive, answers.mixture, answers)
        yield Check("is the posterior's mixture of likelihoods", deviation, EXACT)
    if Brute.static and answers.posterior is not None:
        yield Check("posterior entropy never rises (SE)", _entropy_rises(answers), SIGMAS)
        yield Check(
            "posteriors average to the prior (SE)", _prior(_sequence(Brute, tunnel, answers, 0), answers), SIGMAS + 1
        )
    if tunnel.marginalises:
        yield Check("KL of last-w falls with w (SE)", _windows(answers, tunnel.windows(horizon)), SIGMAS)
    yield Check("outcomes follow the predictive (−log₁₀ p)", _calibration(answers), -np.log10(LEVEL))
    yield Check("float32 agrees", _single(tunnel, answers), SINGLE)
    for name, deviation in Brute.further().items():
        yield Check(name, deviation, EXACT)


def _sequence(Brute: Any, tunnel: Tunnel, answers: Answers, b: int) -> Any:
    return Brute(tunnel, np.asarray(answers.batch.inputs[b]), np.asarray(answers.batch.outcome_BP[b]))


def _counts(answers: Answers) -> np.ndarray:
    """bool[B, P]: what is scored."""
    return np.asarray(answers.batch.weight_BP) > 0


def _apart(log_a: np.ndarray, log_b: np.ndarray, answers: Answers) -> float:
    return float(np.abs(np.exp(log_a) - np.exp(log_b))[_counts(answers)].max())


def _sums(answers: Answers) -> float:
    every = [answers.predictive, answers.full, answers.posterior, *answers.baselines.values()]
    return max(float(np.abs(np.exp(log_p).sum(-1) - 1)[_counts(answers)].max()) for log_p in every if log_p is not None)


def _enumeration(Brute: Any, tunnel: Tunnel, answers: Answers, horizon: int) -> dict[str, float]:
    """The largest deviation from plain loops, of everything that the tunnel says, and of the chain rule."""
    worst = {"predictive equals enumeration": 0.0, "baselines equal enumeration": 0.0, "chain rule": 0.0}
    if answers.posterior is not None:
        worst["posterior equals enumeration"] = 0.0

    def compare(name: str, log_p: np.ndarray, expected: np.ndarray) -> None:
        worst[name] = max(worst[name], float(np.abs(np.exp(log_p) - expected).max()))

    counts = _counts(answers)
    for b in range(JUDGED):
        brute, chain = _sequence(Brute, tunnel, answers, b), 0.0
        for t in np.flatnonzero(counts[b]):
            compare("predictive equals enumeration", answers.predictive[b, t], brute.predictive(t))
            if answers.full is not None:
                compare("predictive equals enumeration", answers.full[b, t], brute.full_predictive(t))
            if answers.posterior is not None:
                compare("posterior equals enumeration", answers.posterior[b, t], brute.posterior(t))
            for name, expected in brute.baselines(int(t), tunnel.windows(horizon)).items():
                compare("baselines equal enumeration", answers.baselines[name][b, t], expected)
            chain += answers.predictive[b, t, answers.batch.outcome_BP[b, t]]
        worst["chain rule"] = max(worst["chain rule"], abs(chain - np.log(brute.evidence())))
    return worst


def _rises(before: np.ndarray, after: np.ndarray) -> float:
    """By how many standard errors the mean of [B] rises; what rises by less than rounding does not."""
    rise = after - before
    error = rise.std(ddof=1) / np.sqrt(len(rise))
    return 0.0 if rise.mean() < EXACT else float(rise.mean() / max(error, EXACT))


def _entropy_rises(answers: Answers) -> float:
    """E[H(posterior)] can only fall as evidence comes in (conditioning lowers entropy on average)."""
    log_p = np.asarray(answers.posterior)
    entropy_BP = -np.where(log_p > -np.inf, np.exp(log_p) * np.maximum(log_p, -1e30), 0.0).sum(-1)
    return max([_rises(entropy_BP[:, t], entropy_BP[:, t + 1]) for t in range(entropy_BP.shape[1] - 1)], default=0.0)


def _prior(brute: Any, answers: Answers) -> float:
    """E[P(h | data)] = P(h): whatever was drawn too often pulls the average up."""
    last = np.exp(np.asarray(answers.posterior)[:, -1])
    error = last.std(axis=0, ddof=1) / np.sqrt(len(last))
    deviation = np.abs(last.mean(axis=0) - brute.prior(0))
    return float((deviation / np.maximum(error, EXACT)).max())


def _windows(answers: Answers, windows: dict[str, int]) -> float:
    def kl_B(name: str) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return (kl(answers.predictive, answers.baselines[name]) * _counts(answers)).sum(-1)

    gaps = [kl_B(name) for name in ("prior", *windows)]
    return max(_rises(before, after) for before, after in itertools.pairwise(gaps))


def _calibration(answers: Answers) -> float:
    """Outcomes against their predicted probabilities: the smallest p-value over positions and outcomes, corrected.

    Σ_b (1[o_b = v] − p_bv) has mean zero and variance Σ_b p_bv (1 − p_bv); only where that is large enough to be
    normal.
    """
    from scipy.stats import norm

    p = np.exp(answers.predictive) * _counts(answers)[..., None]
    drawn = np.eye(p.shape[-1])[np.asarray(answers.batch.outcome_BP)] * _counts(answers)[..., None]
    variance_PV = (p * (1 - p)).sum(0)
    z = np.abs((drawn - p).sum(0)) / np.sqrt(np.maximum(variance_PV, 1e-12))
    z = z[variance_PV > 20]
    impossible = float((drawn * (p == 0)).sum())
    if impossible or not len(z):
        return np.inf if impossible else 0.0
    return float(max(0.0, -(norm.logsf(z.max()) + np.log(2 * len(z))) / np.log(10)))


def _single(tunnel: Tunnel, answers: Answers) -> float:
    """The same sequences in float32."""
    with jax.enable_x64(False):
        batch = jax.tree.map(lambda leaf: jnp.asarray(leaf.astype(leaf.dtype.name.replace("64", "32"))), answers.batch)
        rough = _predict_single(arrays(tunnel), batch)
    return float(np.abs(np.exp(answers.predictive) - np.exp(np.asarray(rough)))[_counts(answers)].max())


@jax.jit
def _predict_single(tunnel: Any, batch: Batch) -> Any:
    observations = batch.outcome_BP.shape[1]
    return tunnel.log_predictive(tunnel.prepare(observations), batch, jnp.arange(observations))

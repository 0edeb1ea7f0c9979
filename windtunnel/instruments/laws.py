"""The law by which exact inference converges, tunnel by tunnel: what can be computed before anything is measured."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from windtunnel.tunnels import Bijection, Hmm, Markov, Permutation, Regression, Urn

SETTLED, UNSETTLED = 3.0, 0.5  # n × Chernoff information from which on few hypotheses are told apart; up to which not


class Law(NamedTuple):
    """`rate` is what theory says. `kind`:

    `few`: hypotheses are few and far apart. The excess of the predictive's entropy over its limit is e^{−nC} but for
    powers of n, C the Chernoff information (nats an observation) between the closest two that are possible.
    `smooth`: a smooth family of d parameters (or a grid too fine to be told apart). The excess is d/(2n) nats: `rate`
    is d.
    `crossover`: between the two, at these lengths; C is given and nothing is expected.
    `count`: equally likely outcomes are counted: H = log₂(their number), so entropy on that has slope 1.
    `forgetting`: what came w observations before matters e^{−γw}: γ ≥ 2 ln(1/|λ₂|) nats an observation, λ₂ the second
    eigenvalue of the transition matrix: KL is quadratic in what is left, and evidence only adds to forgetting.
    """

    kind: str
    rate: float
    unit: str


def law(tunnel: Any, observations: int) -> Law | None:
    """The law that applies to a tunnel within so many observations; None where none is known here."""
    for kind, function in LAWS.items():
        if isinstance(tunnel, kind):
            return function(tunnel, observations)
    return None


def chernoff(p_V: np.ndarray, q_V: np.ndarray) -> float:
    """C = −min_{0≤λ≤1} ln Σ_v p_v^λ q_v^{1−λ}, nats."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda x: math.log(np.sum(p_V**x * q_V ** (1 - x))), bounds=(0, 1), method="bounded", options={"xatol": 1e-9}
    )
    return -float(found.fun)


def _urn(tunnel: Urn, observations: int) -> Law:
    """One parameter; the closest hypotheses are neighbours on the grid."""
    q_H = channel(tunnel)
    closest = min(
        chernoff(np.asarray([1 - a, a]), np.asarray([1 - b, b]))
        for a, b in {(q_H[len(q_H) // 2 - 1], q_H[len(q_H) // 2]), (q_H[0], q_H[1])}
    )
    reached = observations * closest
    if reached >= SETTLED:
        return Law("few", closest, "nats an observation")
    return (
        Law("smooth", 1.0, "parameters") if reached <= UNSETTLED else Law("crossover", closest, "nats an observation")
    )


def _permutation(tunnel: Permutation, observations: int) -> Law:
    """The closest differ by a transposition, which shows at two of V keys. With ρ = Σ_v √(p_v q_v) at such a key, by
    symmetry C = −ln(1 − (2/V)(1 − ρ)).
    """
    V, noise = tunnel.symbols, float(tunnel.noise)
    overlap = 2 * math.sqrt((1 - noise) * noise / (V - 1)) + (V - 2) * noise / (V - 1)
    return Law("few", -math.log(1 - (2 / V) * (1 - overlap)), "nats an observation")


def _hmm(tunnel: Hmm, observations: int) -> Law | None:
    """Known where the mixing is: λ itself; and of one fixed chain."""
    if tunnel.mixing is not None:
        second = float(tunnel.mixing)
    elif tunnel.parameters == "fixed":
        second = float(np.sort(np.abs(np.linalg.eigvals(np.asarray(tunnel.prepare(1).transition[0]))))[-2])
    else:
        return None
    return Law("forgetting", -2 * math.log(second), "nats an observation") if second > 0 else None


LAWS: dict[type, Callable[[Any, int], Law | None]] = {
    Urn: _urn,
    Permutation: _permutation,
    Markov: lambda tunnel, _: Law("smooth", float(tunnel.contexts * (tunnel.symbols - 1)), "parameters"),
    Regression: lambda tunnel, _: Law("smooth", float(tunnel.dimension), "parameters"),
    Bijection: lambda tunnel, _: None if tunnel.replacement or tunnel.random_start else Law("count", 1.0, "slope"),
    Hmm: _hmm,
}


def channel(tunnel: Urn) -> np.ndarray:
    """[H]: the probability of a 1 under each hypothesis, q_h = θ_h(1−ε) + (1−θ_h)ε."""
    theta_H = (np.arange(tunnel.hypotheses) + 0.5) / tunnel.hypotheses
    return theta_H * (1 - float(tunnel.noise)) + (1 - theta_H) * float(tunnel.noise)


def urn_excess_bits(tunnel: Urn, seen: np.ndarray) -> np.ndarray:
    """E[H(predictive after n draws)] − E_h[H(q_h)], bits, for every n in `seen`: the sum over counts, not a sample.

    It is the mutual information between the next draw and the hypothesis, given the draws before it.
    """
    import jax.numpy as jnp
    from scipy.special import gammaln, logsumexp

    q_H = channel(tunnel)
    percent_H = np.abs(2 * np.arange(tunnel.hypotheses) + 1 - tunnel.hypotheses) * (50 / tunnel.hypotheses)
    log_prior_H = np.asarray(tunnel.prior.log_density(jnp.asarray(percent_H)), np.float64)
    log_prior_H -= logsumexp(log_prior_H)
    limit = np.sum(np.exp(log_prior_H) * binary_entropy_bits(q_H))
    excess = []
    for n in seen:
        s_S = np.arange(n + 1)
        ways_S = gammaln(n + 1) - gammaln(s_S + 1) - gammaln(n - s_S + 1)
        log_joint_HS = log_prior_H[:, None] + np.log(q_H)[:, None] * s_S + np.log1p(-q_H)[:, None] * (n - s_S)
        log_seen_S = logsumexp(log_joint_HS, axis=0)
        one_S = np.exp(logsumexp(log_joint_HS + np.log(q_H)[:, None], axis=0) - log_seen_S)
        excess.append(np.sum(np.exp(log_seen_S + ways_S) * binary_entropy_bits(one_S)) - limit)
    return np.asarray(excess)


def binary_entropy_bits(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-300, 1 - 1e-16)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))

"""Subspaces: do the states of different domains vary in different directions?

With C_k the covariance of states weighted by the exact posterior of domain k, and V_k [q, d] its first q principal
directions,

    overlap = ‖V_j V_kᵀ‖² / q, in [0, 1]; of random subspaces q/d on average;
    principal angles θ_i = arccos σ_i(V_j V_kᵀ), from the smallest, 0 where a direction is shared;
    alike = tr(C_j C_k) / (‖C_j‖ ‖C_k‖), what `train.terms.separation` drives down.

q is the smallest number of directions that hold 90 % of the variance in every domain. In shapes, K is the domains.
"""

import itertools

import numpy as np

from windtunnel.instruments.base import Json

HELD = 0.9  # the share of variance that the directions hold


def subspaces(state_BPD: np.ndarray, log_domains_BPK: np.ndarray, weight_BP: np.ndarray) -> Json:
    """`overlap`, `chance` (q/d), `directions` (q), `angles` (degrees, the mean over pairs of domains) and `alike`."""
    weight_BPK = np.exp(log_domains_BPK.astype(np.float64)) * weight_BP[..., None]
    covariance = [_covariance(state_BPD, weight_BPK[..., k]) for k in range(weight_BPK.shape[-1])]
    spectra = [np.linalg.eigh(c_DD) for c_DD in covariance]
    q = max(_directions(value_D[::-1]) for value_D, _ in spectra)
    frames = [vector_DD[:, ::-1][:, :q].T for _, vector_DD in spectra]
    pairs = list(itertools.combinations(range(len(frames)), 2))
    cosines = np.asarray([np.linalg.svd(frames[j] @ frames[k].T, compute_uv=False) for j, k in pairs])
    sizes = [np.linalg.norm(c_DD) for c_DD in covariance]
    alike = [np.sum(covariance[j] * covariance[k]) / max(sizes[j] * sizes[k], 1e-300) for j, k in pairs]
    return {
        "overlap": float(np.mean(np.sum(cosines**2, axis=1) / q)),
        "chance": q / state_BPD.shape[-1],
        "directions": q,
        "angles": np.degrees(np.arccos(np.clip(cosines, 0, 1))).mean(axis=0).tolist(),
        "alike": float(np.mean(alike)),
    }


def _covariance(state_BPD: np.ndarray, weight_BP: np.ndarray) -> np.ndarray:
    total = max(weight_BP.sum(), 1e-300)
    centred_BPD = state_BPD - np.einsum("bp,bpd->d", weight_BP, state_BPD) / total
    return np.einsum("bp,bpd,bpe->de", weight_BP, centred_BPD, centred_BPD) / total


def _directions(value_D: np.ndarray) -> int:
    """How many of these variances, the largest first, hold their share of all."""
    share_D = np.cumsum(value_D) / max(value_D.sum(), 1e-300)
    return min(1 + int(np.sum(share_D < HELD - 1e-12)), len(value_D))

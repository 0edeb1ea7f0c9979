"""The exact predictive of `permutation` by enumeration, in numpy: all V! permutations, all products through BLAS.

float32, in blocks of queries whose weights stay in the cache; one product gives the log-weights, and the marginals of
the key that is asked are a product too, since queries are sorted by that key.
"""

import itertools

import numpy as np

BLOCK = 32  # queries


class Enumeration:
    """The posterior over all permutations, at any counts of (key, value) pairs."""

    def __init__(self, symbols: int, noise: float, log_density: np.ndarray):
        """`log_density`, [V]: the log-prior of the distance |i − π(i)|."""
        permutation_HV = np.array(list(itertools.permutations(range(symbols))))
        self.symbols, self.noise = symbols, noise
        self.log_prior_H = log_density[abs(permutation_HV - np.arange(symbols))].sum(1).astype(np.float32)
        self.has_HVV = np.eye(symbols, dtype=np.float32)[permutation_HV]
        log_odds = np.log((1 - noise) * (symbols - 1) / noise)
        self.evidence_xH = np.ascontiguousarray(self.has_HVV.reshape(len(permutation_HV), -1).T * np.float32(log_odds))

    def predictive(self, counts_NVV: np.ndarray, asked_N: np.ndarray) -> np.ndarray:
        """[N, V]: p(value) of each query's key, given how often each pair was seen."""
        m_NV, order = np.empty((len(asked_N), self.symbols), np.float32), np.argsort(asked_N, kind="stable")
        counts_Nx = counts_NVV.reshape(len(asked_N), -1).astype(np.float32)
        for key in np.unique(asked_N):
            mine, has_HV = order[asked_N[order] == key], np.ascontiguousarray(self.has_HVV[:, key])
            for first in range(0, len(mine), BLOCK):
                block = mine[first : first + BLOCK]
                weight_NH = counts_Nx[block] @ self.evidence_xH
                weight_NH += self.log_prior_H
                weight_NH -= weight_NH.max(axis=1, keepdims=True)
                np.exp(weight_NH, out=weight_NH)
                by_value_NV = weight_NH @ has_HV
                m_NV[block] = by_value_NV / by_value_NV.sum(axis=1, keepdims=True)
        return m_NV * (1 - self.noise) + (1 - m_NV) * self.noise / (self.symbols - 1)

"""The exact predictive of `permutation` by enumeration, in numpy: all V! permutations, log-weights by a matrix product.

In float32. Queries and permutations are processed in blocks, with an online softmax, so that weights stay in the cache.
All queries of a block have the same key, so the marginals of its value are a matrix product too. Threads share the
blocks of queries, since numpy's loops and BLAS release the interpreter's lock.

In shapes, N is the queries, Q the queries of a block, H the permutations of a block, and x the V² pairs.
"""

import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

QUERIES, PERMUTATIONS = 96, 2016


class Enumeration:
    """The posterior over all permutations, at any counts of (key, value) pairs."""

    def __init__(self, symbols: int, noise: float, log_density: np.ndarray):
        """`log_density`, [V]: the log-prior of the distance |i − π(i)|."""
        self.symbols, self.noise = symbols, noise
        log_odds = np.log((1 - noise) * (symbols - 1) / noise)
        permutation_HV = np.array(list(itertools.permutations(range(symbols))))
        self.blocks = []  # of permutations: log-prior, log-odds that each pair adds, one-hot value of each key
        for first in range(0, len(permutation_HV), PERMUTATIONS):
            block_HV = permutation_HV[first : first + PERMUTATIONS]
            log_prior_H = log_density[abs(block_HV - np.arange(symbols))].sum(1).astype(np.float32)
            has_VHV = np.eye(symbols, dtype=np.float32)[block_HV].transpose(1, 0, 2).copy()
            evidence_xH = (has_VHV.transpose(0, 2, 1) * np.float32(log_odds)).reshape(symbols**2, -1)
            self.blocks.append((log_prior_H, evidence_xH, has_VHV))

    def predictive(self, counts_NVV: np.ndarray, asked_N: np.ndarray) -> np.ndarray:
        """[N, V]: p(value) of each query's key, given how often each pair was seen."""
        order = np.argsort(asked_N, kind="stable")
        by_key = [order[asked_N[order] == key] for key in range(self.symbols)]
        blocks = [queries[i : i + QUERIES] for queries in by_key for i in range(0, len(queries), QUERIES)]
        m_NV, counts_Nx = np.empty((len(asked_N), self.symbols)), counts_NVV.reshape(len(asked_N), -1)
        with threadpool_limits(1), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for block, m_QV in pool.map(lambda q: (q, self._marginal(counts_Nx[q], asked_N[q[0]])), blocks):
                m_NV[block] = m_QV
        return m_NV * (1 - self.noise) + (1 - m_NV) * self.noise / (self.symbols - 1)

    def _marginal(self, counts_Qx: np.ndarray, key: int) -> np.ndarray:
        """[Q, V]: P(π(key) = v | counts)."""
        counts_Qx = counts_Qx.astype(np.float32)
        top_Q1 = np.full((len(counts_Qx), 1), -np.inf, np.float32)
        total_QV = np.zeros((len(counts_Qx), self.symbols), np.float32)
        for log_prior_H, evidence_xH, has_VHV in self.blocks:
            weight_QH = counts_Qx @ evidence_xH
            weight_QH += log_prior_H
            before_Q1, top_Q1 = top_Q1, np.maximum(top_Q1, weight_QH.max(axis=1, keepdims=True))
            weight_QH -= top_Q1
            np.exp(weight_QH, out=weight_QH)
            total_QV = total_QV * np.exp(before_Q1 - top_Q1) + weight_QH @ has_VHV[key]
        return total_QV / total_QV.sum(axis=1, keepdims=True)

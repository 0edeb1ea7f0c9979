"""`permutation` against enumeration where that is possible, its own prior, and its own long run."""

import itertools
import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import composed
from windtunnel.errors import BadInput
from windtunnel.priors import GeneralizedGaussian, Uniform
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch, Permutation

pytestmark = pytest.mark.usefixtures("x64")


def pairs(keys, values, symbols):
    """One sequence of these pairs."""
    inputs = np.stack([keys, np.asarray(values) + symbols], axis=1).reshape(1, -1)[:, :-1]
    return Batch(jnp.asarray(inputs, jnp.int32), jnp.asarray([values], jnp.int32), jnp.ones((1, len(keys))))


def weights(tunnel):
    """{π: its prior}, by plain enumeration."""
    prior = {}
    for pi in itertools.permutations(range(tunnel.symbols)):
        prior[pi] = math.exp(-sum((abs(i - v) / tunnel.prior.scale) ** tunnel.prior.beta for i, v in enumerate(pi)))
    total = sum(prior.values())
    return {pi: weight / total for pi, weight in prior.items()}


def test_the_example_of_the_docstring():
    batch = pairs([0, 1], [1, 0], 3)
    tunnel = arrays(Permutation(symbols=3, noise=0.2, prior=Uniform()))
    p_PV = np.exp(jax.jit(lambda: tunnel.log_predictive(tunnel.prepare(2), batch, jnp.arange(2))[0])())
    np.testing.assert_allclose(p_PV[0], 1 / 3)
    marginal = np.asarray([9, 2, 9]) / 20
    np.testing.assert_allclose(p_PV[1], marginal * 0.8 + (1 - marginal) * 0.1)


def test_seven_symbols_are_enumerated():
    """5,040 hypotheses in a plain loop: `verify` goes up to four symbols."""
    tunnel, noise = Permutation(symbols=7, noise=0.1, prior=GeneralizedGaussian(scale=1.5, beta=0.7)), 0.1
    random = np.random.default_rng(0)
    keys, values = random.integers(0, 7, 12), random.integers(0, 7, 12)
    knobs, batch = arrays(tunnel), pairs(keys, values, 7)
    predictive = np.exp(jax.jit(lambda: knobs.log_predictive(knobs.prepare(12), batch, jnp.arange(12)))()[0])
    for t in (0, 1, 5, 11):
        p_V, total = np.zeros(7), 0.0
        for pi, weight in weights(tunnel).items():
            for key, value in zip(keys[:t], values[:t], strict=True):
                weight *= 1 - noise if pi[key] == value else noise / 6
            p_V += weight * np.where(np.arange(7) == pi[keys[t]], 1 - noise, noise / 6)
            total += weight
        np.testing.assert_allclose(predictive[t], p_V / total, atol=1e-9)


def test_permutations_are_drawn_from_the_prior():
    """Chi-square over the 24 permutations of four symbols, level one in a million."""
    from scipy.stats import chi2

    tunnel, count = Permutation(symbols=4, prior=GeneralizedGaussian(scale=1.5, beta=1.0)), 50_000
    knobs = arrays(tunnel)
    drawn = jax.jit(lambda key: knobs.draw(key, knobs.tabulate(1), count))(jax.random.key(0))
    seen = Counter(map(tuple, np.asarray(drawn).tolist()))
    expected = {pi: weight * count for pi, weight in weights(tunnel).items()}
    assert set(seen) <= set(expected), "each is a permutation"
    assert sum((seen[pi] - n) ** 2 / n for pi, n in expected.items()) < chi2.isf(1e-6, 23)


@pytest.mark.slow
def test_after_32_000_pairs_only_the_noise_remains():
    """Counts so large that no weight of a wrong permutation is a float any more: only its logarithm is."""
    n, at = 32_000, np.asarray([0, 5_000, 31_999])
    with jax.enable_x64(False):
        tunnel = arrays(Permutation(symbols=5, noise=0.2))

        @jax.jit
        def late():
            tables = tunnel.prepare(n)
            batch = tunnel.sample(jax.random.key(1), tables, 2, n)
            less = tunnel.baselines(tables, batch, at, 512)
            return batch, tunnel.log_predictive(tables, batch, at), less["last-horizon"]

        batch, *log_ps = late()
        keys, values = np.asarray(batch.inputs)[:, 0::2], np.asarray(batch.outcome_BP)
    for b in range(2):
        secret = [Counter(values[b][keys[b] == x].tolist()).most_common(1)[0][0] for x in range(5)]
        assert sorted(secret) == list(range(5))
        for log_p in log_ps:
            p_PV = np.exp(np.asarray(log_p, float))[b]
            np.testing.assert_allclose(p_PV.sum(-1), 1, atol=1e-6)
            for i in (1, 2):
                channel = np.where(np.arange(5) == secret[keys[b, at[i]]], 0.8, 0.05)
                np.testing.assert_allclose(p_PV[i], channel, atol=1e-6)


def test_sizes_that_exist():
    assert composed.study("tunnel=permutation", "tunnel.hypotheses=40320").tunnel.symbols == 8
    with pytest.raises(BadInput, match=r"tunnel\.hypotheses=1000: .*the nearest: 720 and 5040"):
        composed.study("tunnel=permutation", "tunnel.hypotheses=1000")

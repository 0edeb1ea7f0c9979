"""`tree`, beyond what `verify` proves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel.information import kl
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch, Tree

pytestmark = pytest.mark.usefixtures("x64")


def test_the_example_of_the_docstring():
    batch = Batch(jnp.asarray([[2, 0]]), jnp.asarray([[0, 0]]), jnp.ones((1, 2)))
    log_p = arrays(Tree(symbols=2, noise=0.25)).log_predictive((), batch, jnp.arange(2))
    np.testing.assert_allclose(np.exp(log_p[0]), [[1 / 2, 1 / 2], [5 / 8, 3 / 8]], atol=1e-12)


def test_leaves_agree_as_often_as_their_distance_in_the_tree_says():
    """Leaves with a common ancestor of height h are equal with probability 1/k + (1 − 1/k) (1 − εk/(k−1))^2h."""
    k, noise, count = 3, 0.2, 20_000
    leaf_BT = np.asarray(arrays(Tree(symbols=k, noise=noise)).sample(jax.random.key(0), (), count, 8).outcome_BP)
    for t in range(1, 8):
        height = t.bit_length()
        expected = 1 / k + (1 - 1 / k) * (1 - noise * k / (k - 1)) ** (2 * height)
        error = np.sqrt(expected * (1 - expected) / count)
        assert abs((leaf_BT[:, 0] == leaf_BT[:, t]).mean() - expected) < 5 * error


@pytest.mark.slow
def test_far_leaves_matter_and_what_is_longer_or_wider_knows_more():
    """Headroom past the horizon: a reasoner that sees a horizon, or the subtree of one, is not exact."""
    tunnel = arrays(Tree(symbols=4, noise=0.05))

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def gaps(tunnel):
        at = jnp.arange(256, 512)
        batch = tunnel.sample(jax.random.key(1), (), 64, 512)
        return tunnel.log_predictive((), batch, at), tunnel.baselines((), batch, at, 64)

    exact, lesser = gaps(tunnel)
    bits = {name: float(kl(exact, log_q).mean()) / np.log(2) for name, log_q in lesser.items()}
    for kind in ("last-", "levels-"):
        widths = {name: int(name.removeprefix(kind)) for name in bits if name.removeprefix(kind).isdigit()}
        of_kind = [bits[name] for name in sorted(widths, key=widths.__getitem__)]
        assert (np.diff(of_kind) < 0).all(), "each sees more than the one before"
    assert min(bits.values()) > 1e-3, bits

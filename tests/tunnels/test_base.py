"""What all tunnels use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel.tunnels.base import running_logsumexp

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("reverse", [False, True])
def test_a_running_logsumexp_is_that_of_every_prefix_also_of_nothing(reverse):
    log_x = np.array(jax.random.normal(jax.random.key(0), (3, 5, 2))) * 300
    log_x[0, :2], log_x[1] = -np.inf, -np.inf
    found = np.asarray(jax.jit(lambda x: running_logsumexp(x, 1, reverse))(jnp.asarray(log_x)))
    parts = [log_x[:, t:] if reverse else log_x[:, : t + 1] for t in range(5)]
    expected = np.stack([np.logaddexp.reduce(part, axis=1) for part in parts], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)

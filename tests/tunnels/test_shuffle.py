"""`shuffle`, beyond what `verify` proves."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel.spec import arrays
from windtunnel.tunnels import Batch, Shuffle

pytestmark = pytest.mark.usefixtures("x64")


@jax.jit
def predicted(tunnel, inputs):
    at = jnp.arange(inputs.shape[1] - 1)
    return tunnel.log_predictive((), Batch(inputs, inputs[:, 1:], jnp.ones(inputs[:, 1:].shape)), at)


def test_the_example_of_the_docstring():
    """Three objects; a look at place 1 that names 2, then the swap (0 1)."""
    look, swap = 1 + 3 + 1 * 3 + 2, 1
    p = np.exp(predicted(arrays(Shuffle(objects=3, noise=0.1)), jnp.asarray([[0, look, swap]])))[0]
    np.testing.assert_allclose(p, [[0.475, 0.475, 0.05], [0.0925, 0.0925, 0.815]], atol=1e-12)


def test_a_walk_of_hundreds_of_tokens_against_matrices():
    """T = (1−ε) P + ε I for a swap and a diagonal for a look, multiplied out over 24 arrangements."""
    tunnel = Shuffle(objects=4, noise=0.03, looks=0.2)
    batch = jax.jit(lambda tunnel: tunnel.sample(jax.random.key(0), (), 3, 300))(arrays(tunnel))
    log_p, every = predicted(arrays(tunnel), batch.inputs), list(itertools.permutations(range(4)))
    swaps = list(itertools.combinations(range(4), 2))
    for b in range(3):
        belief = np.full(24, 1 / 24)
        for t, token in enumerate(np.asarray(batch.inputs)[b, 1:] - 1):
            if token < len(swaps):
                i, j = swaps[token]
                done = np.zeros((24, 24))
                for row, before in enumerate(every):
                    after = list(before)
                    after[i], after[j] = before[j], before[i]
                    done[row, every.index(tuple(after))] = 1
                belief = belief @ (0.97 * done + 0.03 * np.eye(24))
            else:
                place, item = divmod(token - len(swaps), 4)
                belief = belief * [0.97 if arrangement[place] == item else 0.01 for arrangement in every]
                belief /= belief.sum()
            expected = [sum(w for w, of in zip(belief, every, strict=True) if of[0] == item) for item in range(4)]
            np.testing.assert_allclose(np.exp(log_p[b, t]), expected, atol=1e-9)


def test_a_sequence_is_what_its_tokens_say():
    """Looks come at their rate; without noise every look is right, and what is in place 0 moves as the swaps say."""
    tunnel = Shuffle(objects=3, noise=0.0, looks=0.3)
    batch = jax.jit(lambda tunnel: tunnel.sample(jax.random.key(1), (), 400, 40))(arrays(tunnel))
    tokens, in_first = np.asarray(batch.inputs)[:, 1:] - 1, np.asarray(batch.outcome_BP)
    looks = tokens >= 3
    assert abs(looks.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / looks.size)
    np.testing.assert_array_equal(in_first[looks & (tokens < 6)], (tokens - 3)[looks & (tokens < 6)])
    moved = in_first[:, 1:] != in_first[:, :-1]
    np.testing.assert_array_equal(moved, np.isin(tokens[:, 1:], [0, 1]))  # (0 1) and (0 2), never (1 2) or a look
    assert np.abs(np.bincount(in_first[:, 0], minlength=3) / 400 - 1 / 3).max() < 5 * np.sqrt(2 / 9 / 400)

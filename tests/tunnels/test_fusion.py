"""`fusion`, beyond what `verify` proves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel.priors import Uniform
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch, Fusion

pytestmark = pytest.mark.usefixtures("x64")
SMALL = Fusion(bits=3, symbols=4, levels=2)


@pytest.fixture(scope="module")
def batch():
    with jax.enable_x64(True):
        return jax.jit(lambda tunnel: tunnel.sample(jax.random.key(0), (), 500, 12))(arrays(SMALL))


def test_the_example_of_the_docstring():
    """Keys ++ then +−; A shows ++ with ε = 0.1, B (0, −1) with σ = 1: the first pair is e^0.2 times as likely."""
    tunnel = Fusion(bits=2, symbols=3, prior=Uniform())
    cue = [1, 1, 0.1, 0, -1, 1]
    inputs = jnp.asarray([[[1, 1, 0, 0, 1, *cue], [1, -1, 1, 0, 0, *cue]]], float)
    asked = Batch(inputs, jnp.asarray([[2, 2]]), jnp.ones((1, 2)))
    log_p = jax.jit(lambda: arrays(tunnel).log_predictive((), asked, jnp.arange(2)))()[0]
    odds = np.exp(log_p[1, 2] - log_p[1, 0])
    assert odds == pytest.approx(np.exp(2 * (np.log(9) / 2 - 1))) and odds == pytest.approx(np.exp(0.2), rel=0.01)
    np.testing.assert_allclose(np.exp(log_p[0]), [0, 0, 1])


def test_channels_show_what_they_say_they_show(batch):
    """Where A says ε, that share of its bits is flipped; where B says σ, that is the spread of its numbers; in the dark
    both show zeros.
    """
    x_BTb, noise_BT, y_BTb, sigma_BT = map(np.asarray, SMALL._cues(batch))
    assert set(np.unique(noise_BT)) == {0.0, 0.2, 0.4} and set(np.unique(sigma_BT)) == {0.0, 1.5, 3.0}
    for noise_of, shown in ((noise_BT, x_BTb), (sigma_BT, y_BTb)):
        assert np.mean(noise_of == 0) == pytest.approx(0.2, abs=0.03)
        assert (shown[noise_of == 0] == 0).all() and (shown[noise_of > 0] != 0).all()
    key_b, x_b, noise, y_b, sigma = (
        np.asarray(of)[:, 0] for of in (batch.inputs[..., :3], x_BTb, noise_BT, y_BTb, sigma_BT)
    )
    for level in (0.2, 0.4):  # at the first observation there is one pair to ask for
        assert np.mean(key_b[noise == level] != x_b[noise == level]) == pytest.approx(level, abs=0.06)
    for level in (1.5, 3.0):
        assert np.std((y_b - key_b)[sigma == level]) == pytest.approx(level, rel=0.1)


def test_in_conflict_b_shows_what_it_showed_before(batch):
    crossed = SMALL.crossed(batch)
    before, after = (np.asarray(of.inputs) for of in (batch, crossed))
    np.testing.assert_array_equal(after[:, 1:, -4:], before[:, :-1, -4:])
    np.testing.assert_array_equal(after[..., :-4], before[..., :-4])
    np.testing.assert_array_equal(after[:, 0], before[:, 0])


def test_the_exact_gains_weigh_as_the_exact_reasoner_and_none_as_one_channel(batch):
    few = jax.tree.map(lambda leaf: leaf[:4], batch)

    @jax.jit
    def asked(tunnel):
        at, gains = jnp.arange(12), {name: gain_L for name, (_, gain_L) in tunnel.channels.items()}
        none_b = {**gains, "B": jnp.zeros_like(gains["B"])}
        weighed = [tunnel.log_weighed((), few, at, of) for of in (gains, none_b)]
        return weighed, [tunnel.log_predictive((), few, at), tunnel.baselines((), few, at, 4)["A"]]

    for weighed, exact in zip(*asked(arrays(SMALL)), strict=True):
        np.testing.assert_allclose(weighed, exact, atol=1e-12)


def test_words_count_the_agreement_through_each_channel():
    key, other = [1.0, 1.0, -1.0], [1.0, -1.0, 1.0]
    cue = [1, 1, 1, 0.2, 0.3, -2.0, -0.1, 1.5]
    inputs = np.asarray([[*key, 1, 0, 0, 0, *cue], [*other, 0, 0, 1, 0, *cue]])
    assert SMALL.words(inputs) == ["A 2 2", "C 2 2"]

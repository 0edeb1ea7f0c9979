"""Positional priors against their formulas, written out as plain loops."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.small import FEATURES, POSITIONS, built, rows
from windtunnel import config, door
from windtunnel.errors import BadInput
from windtunnel.matrices import hidden
from windtunnel.models.position import (
    EPSILON,
    T5,
    Alibi,
    Bam,
    Fire,
    Gaussian,
    GeneralizedGaussian,
    Kerple,
    Learned,
    PerHead,
    PerLayer,
    Randomised,
    Rope,
    Sinusoidal,
    Uniform,
    Xpos,
    alibi_slopes,
)
from windtunnel.models.tap import Collect
from windtunnel.optimizers import optimizer
from windtunnel.spec import arrays

HEADS, WIDTH, LENGTH = 2, 8, 16
QUERIES, KEYS = np.asarray([0, 5, 300]), np.asarray([0, 3, 5, 299])
SLOPES = (2**-4, 2**-8)  # of two heads
STEEP = {"log_alpha": jnp.asarray([0.3, 0.0]), "beta": jnp.asarray([-0.7, 1.5]), "theta_mu": jnp.asarray([1.1, -0.4])}
TABLE = np.random.default_rng(0).normal(size=(2, 32))
RATES = {"log_r1": jnp.log(jnp.asarray([0.5, 3.0])), "log_r2": jnp.log(jnp.asarray([2.0, 0.1]))}
NETWORK = {
    "log_c": jnp.log(0.3),
    "log_threshold": jnp.log(20.0),
    "slope": jnp.asarray([1.0, -2.0]),
    "offset": jnp.asarray([0.5, 1.0]),
    "readout": jnp.asarray([[1.0, -1.0], [0.25, 3.0]]),
}
ADDITIVE = {
    name: position
    for name, position in POSITIONS.items()
    if not isinstance(position, (Uniform, Learned, Sinusoidal, Randomised, Rope, Xpos, PerLayer))
}


def start(position):
    return arrays(position).parameters(jax.random.key(0), HEADS, WIDTH, LENGTH)


def bias(position, learned=None, queries=QUERIES, keys=KEYS):
    learned = start(position) if learned is None else learned
    return arrays(position).bias(learned, HEADS, jnp.asarray(queries), jnp.asarray(keys))


def bam(n, d):
    alpha, beta, mu = (float(STEEP[name][n]) for name in ("log_alpha", "beta", "theta_mu"))
    return -math.exp(alpha) * (abs(d - (math.exp(mu) - math.exp(-mu))) + EPSILON) ** beta


def kerple(n, d):
    return -(0.5, 3.0)[n] * math.log(1 + (2.0, 0.1)[n] * d)


def t5(n, d):
    ends = [16 * 8 ** (k / 16) for k in range(1, 16)]  # the last distances of buckets 16, 17, … 30
    return TABLE[n, d if d < 16 else 16 + sum(d >= end for end in ends)]


def fire(n, d, i):
    share = math.log(0.3 * d + 1) / math.log(0.3 * max(i, 20) + 1)
    units = max(0, share + 0.5), max(0, -2 * share + 1)
    return units[0] * (1.0, -1.0)[n] + units[1] * (0.25, 3.0)[n]


@pytest.mark.parametrize(
    ("position", "learned", "log_prior"),
    [
        (Alibi(), None, lambda n, d, i: -SLOPES[n] * d),
        (GeneralizedGaussian(scale=3.0, beta=0.5), None, lambda n, d, i: -math.sqrt(d / 3)),
        (GeneralizedGaussian(scale=3.0, beta=2.0, learn=False), None, lambda n, d, i: -((d / 3) ** 2)),
        (Gaussian(scale=3.0), None, lambda n, d, i: -((d / 3) ** 2)),
        (Gaussian(), {"log_scale": jnp.log(jnp.asarray([2.0, 7.0]))}, lambda n, d, i: -((d / (2, 7)[n]) ** 2)),
        (Gaussian(scale=3.0, learn=False), None, lambda n, d, i: -((d / 3) ** 2)),
        (Bam(start="alibi"), None, lambda n, d, i: -SLOPES[n] * (d + EPSILON)),
        (Bam(start="uniform"), None, lambda n, d, i: -1.0),
        (Bam(learn=()), None, lambda n, d, i: -SLOPES[n] * (d + EPSILON)),
        (Bam(learn=("alpha", "beta", "mu")), STEEP, lambda n, d, i: bam(n, d)),
        (Kerple(), None, lambda n, d, i: -math.log(1 + d)),
        (Kerple(), RATES, lambda n, d, i: kerple(n, d)),
        (T5(), None, lambda n, d, i: 0.0),
        (T5(), {"buckets": jnp.asarray(TABLE)}, lambda n, d, i: t5(n, d)),
        (Fire(), NETWORK, lambda n, d, i: fire(n, d, i)),
        (PerHead(heads=(Uniform(), Alibi())), None, lambda n, d, i: -n * SLOPES[n] * d),
        (
            PerHead(heads=(Kerple(), Bam())),
            {f"{name}_0": value for name, value in RATES.items()}
            | {f"{name}_1": value for name, value in STEEP.items()},
            lambda n, d, i: (kerple, bam)[n](n, d),
        ),
    ],
)
def test_bias_is_the_log_prior(position, learned, log_prior):
    queries, keys = (0, 5, 19, 300), (0, 3, 5, 178, 236, 283, 299)  # distances on both sides of T5's and FIRE's bends
    expected = [[[log_prior(n, abs(i - k), i) for k in keys] for i in queries] for n in range(HEADS)]
    computed = np.broadcast_to(bias(position, learned, queries, keys), np.shape(expected))
    np.testing.assert_allclose(computed, expected, rtol=1e-5, atol=1e-6)


def test_published_alibi_slopes():
    np.testing.assert_allclose(alibi_slopes(8), [2.0**-i for i in range(1, 9)])


@pytest.mark.parametrize("position", [Uniform(), Learned(), Sinusoidal(), Randomised(), Rope(), Xpos()])
def test_no_log_prior(position):
    assert bias(position) is None


@pytest.mark.parametrize("name", rows(ADDITIVE))
def test_attention_is_likelihood_times_prior(name):
    """softmax(a + b) = normalise(softmax(a) softmax(b)), of what attention really computed."""
    module, params = built(ADDITIVE[name], layers=1)
    kinds = ("queries", "keys", "attention")

    @jax.jit
    def looked_at(inputs):
        seen = Collect(*kinds)
        module(inputs, np.arange(7), tap=seen)
        return {kind: seen[kind] for kind in kinds}

    seen = looked_at(jax.random.normal(jax.random.key(1), (1, 7, FEATURES)))
    learned = params["layers"]["0"]["attention"].get("learned", {})
    prior_NQK = np.broadcast_to(bias(ADDITIVE[name], learned, np.arange(7), np.arange(7)), (2, 7, 7))
    for n in range(2):
        q, k = (np.asarray(seen[kind][0][0, n], float) for kind in ("queries", "keys"))
        for i in range(7):
            likelihood, prior = (np.exp(x) / np.exp(x).sum() for x in (k[: i + 1] @ q[i] / 2, prior_NQK[n, i, : i + 1]))
            posterior = likelihood * prior / (likelihood * prior).sum()
            np.testing.assert_allclose(seen["attention"][0][0, n, i, : i + 1], posterior, atol=1e-6)


@pytest.mark.parametrize("name", ADDITIVE)
def test_a_stationary_bias_is_one_row_of_it(name):
    """Which is what long evaluation relies on; FIRE's is not, past its threshold."""
    position, at = ADDITIVE[name], np.arange(40)
    learned = jax.tree.map(lambda leaf: leaf + 0.1 * jnp.arange(leaf.size).reshape(leaf.shape), start(position))
    full_NQK = np.asarray(bias(position, learned, at, at))
    row_NK = np.asarray(bias(position, learned, at[-1:], at))[:, 0, ::-1]
    by_distance = np.all([np.allclose(full_NQK[:, i, : i + 1], row_NK[:, i::-1], atol=1e-5) for i in at])
    assert bool(by_distance) == position.stationary == (name != "fire")


def test_gradients_are_finite_at_distance_zero():
    """|d|^β has none at d = 0, and every token is at distance 0 from itself."""
    at = jnp.arange(4)

    @jax.jit
    @jax.grad
    def slopes(learned):
        return sum(jnp.sum(arrays(ADDITIVE[name]).bias(of, HEADS, at, at)) for name, of in learned.items())

    gradient = slopes({name: start(position) for name, position in ADDITIVE.items()})
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("beta", [-0.5, -1.0, -20.0, 20.0])
def test_bam_is_finite_near_mu_and_far_away_however_steep(beta):
    position = arrays(Bam(learn=("alpha", "beta", "mu")))
    at = jnp.asarray([0, 1, 2, 32_000])
    for mu in (0.0, math.asinh(1.0)):  # μ = 0, and μ = 2, where |d − μ| has its kink

        def attended(learned):
            prior = position.bias(learned, HEADS, at, at)
            seen = jnp.where(at[None, :] <= at[:, None], prior, -jnp.inf)
            return jnp.sum(jax.nn.softmax(seen) * jnp.arange(4)), prior

        learned = {"log_alpha": jnp.ones(2), "beta": jnp.full(2, beta), "theta_mu": jnp.full(2, mu)}
        gradient, prior = jax.jit(jax.grad(attended, has_aux=True))(learned)
        assert jnp.isfinite(prior).all()
        assert all(jnp.isfinite(leaf).all() for leaf in gradient.values())


def test_bam_learns_what_it_is_told_to():
    assert set(start(Bam())) == {"log_alpha", "beta"}
    assert set(start(Bam(learn=("mu",)))) == {"theta_mu"}
    assert not start(Bam(learn=()))


def test_what_is_learned_of_a_position_is_no_hidden_matrix():
    _, params = built(PerLayer(layers=(T5(), Fire(), Bam(), Learned())), layers=4)
    masks = hidden(params)["layers"]
    learned = [masks[layer]["attention"]["learned"] for layer in masks]
    assert len(jax.tree.leaves(learned)) == 1 + 5 + 2 + 1 and not any(jax.tree.leaves(learned))
    assert masks["0"]["attention"]["query"]["kernel"]


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_what_is_learned_of_a_position_never_decays(name):
    attention = {"learned": {"buckets": jnp.ones((2, 32))}, "query": {"kernel": jnp.ones((2, 32))}}
    params = {"layers": {"0": {"attention": attention}}}
    transformation = optimizer(config.Train(optimizer=name, weight_decay=1.0, warmup=0.0, steps=10))

    @jax.jit
    def idle(params):
        """Two steps without a gradient: the rate of the first is zero."""
        state = transformation.init(params)
        for _ in range(2):
            updates, state = transformation.update(jax.tree.map(jnp.zeros_like, params), state, params)
        return updates["layers"]["0"]["attention"]

    updates = idle(params)
    assert (updates["query"]["kernel"] < 0).all() and (updates["learned"]["buckets"] == 0).all()


@pytest.mark.parametrize("width", [6, 5])
def test_sinusoids(width):
    waves = Sinusoidal().bound(width, LENGTH).embed({}, jnp.asarray([0, 3, 1000]))
    for row, t in zip(np.asarray(waves), (0, 3, 1000), strict=True):
        for channel in range(width):
            angle = t / 10_000 ** (2 * (channel // 2) / width)
            assert row[channel] == pytest.approx(math.cos(angle) if channel % 2 else math.sin(angle), abs=1e-4)


def test_randomised_positions_are_places_in_order():
    position = Randomised(range=20)
    draws = [np.asarray(position.positions(jax.random.key(seed), 8)) for seed in range(200)]
    for places in draws:
        assert (np.diff(places) > 0).all() and places.min() >= 0 and places.max() < 20
    assert len({tuple(places) for places in draws}) > 190, "drawn anew"
    assert set(np.concatenate(draws)) == set(range(20)), "from all of the range"
    np.testing.assert_array_equal(position.positions(None, 8), [t * 20 // 8 for t in range(8)])
    np.testing.assert_array_equal(position.positions(None, 20), range(20))
    long = np.asarray(Randomised(range=100_000).positions(None, 32_000))
    assert (np.diff(long) >= 3).all() and long[-1] == 31_999 * 100_000 // 32_000, "no overflow"
    assert start(Randomised(range=20, inner=Learned()))["table"].shape == (20, WIDTH), "a place each"


@pytest.mark.parametrize(
    ("past", "expected"), [("clip", [1, 2, 3, 3, 3]), ("wrap", [1, 2, 3, 1, 2]), ("zero", [1, 2, 3, 0, 0])]
)
def test_learned_positions_past_their_table_do_what_the_record_says(past, expected):
    learned = {"table": jnp.asarray([[1.0], [2.0], [3.0]])}
    np.testing.assert_array_equal(Learned(past=past).embed(learned, jnp.arange(5))[:, 0], expected)


def test_a_table_is_as_long_as_the_horizon_or_as_asked():
    for length, expected in ((None, LENGTH), (5, 5)):
        assert start(Learned(length=length))["table"].shape == (expected, WIDTH)


@pytest.mark.parametrize(
    ("position", "heads", "reach", "message"),
    [
        ({"name": "rope"}, 2, 1, "position=rope: needs an even head width, not 3"),
        ({"name": "xpos"}, 2, 1, "position=xpos: needs an even head width, not 3"),
        ({"name": "randomised", "inner": {"name": "rope"}}, 2, 1, "position.inner=rope: needs an even head width"),
        ({"name": "per_layer", "layers": [{"name": "rope"}]}, 2, 1, "position.layers.0=rope: needs an even head width"),
        ({"name": "rope", "scaling": "ntk"}, 3, 1, "position.scaling=ntk: needs a head width of at least 4"),
        ({"name": "rope", "scaling": "pi"}, 1, 1, "position.scaling=pi: should be 'none', 'interpolation', 'ntk'"),
        ({"name": "randomised", "range": 100}, 1, 2, "position.range=100: .* 128 tokens .* smaller evaluate.reach"),
        (
            {"name": "randomised", "inner": {"name": "rope", "scaling": "yarn"}},
            1,
            1,
            "position.inner.scaling=yarn: .*valid: none",
        ),
        ({"name": "randomised", "inner": {"name": "alibi"}}, 1, 1, "position.inner=alibi: no such name"),
        ({"name": "xpos", "scale": 3}, 1, 8, "position.scale=3: .* 384 tokens, not for 512; .* of at least 4"),
        ({"name": "per_head", "heads": [{"name": "rope"}]}, 1, 1, "position.heads.0=rope: adds no prior .* a head"),
        ({"name": "per_head", "heads": [{"name": "bam"}] * 2}, 3, 1, "position.heads: lists 2 .* model.heads=3"),
        (
            {"name": "per_layer", "layers": [{"name": "per_head", "heads": [{"name": "bam"}] * 2}]},
            1,
            1,
            "position.heads: lists 2 positions, and the model has model.heads=1",
        ),
        ({"name": "bam", "learn": ["gamma"]}, 1, 1, "position.learn.0=gamma: should be 'alpha', 'beta' or 'mu'"),
    ],
)
def test_the_door_says_what_a_position_cannot_do(position, heads, reach, message):
    plain = {"tunnel": {"name": "recall"}, "model": {"name": "transformer", "width": 6, "heads": heads}}
    with pytest.raises(BadInput, match=message):
        door.study({**plain, "train": {"horizon": 64}, "evaluate": {"reach": reach}, "position": position})

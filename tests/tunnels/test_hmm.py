"""`hmm`, beyond what `verify` proves."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.scipy.special import logsumexp

from windtunnel.compare import entropy_bits, kl_bits
from windtunnel.spec import arrays, stack
from windtunnel.tunnels import Batch, Hmm

pytestmark = pytest.mark.usefixtures("x64")

MESS3 = {"preset": "mess3", "states": 3, "symbols": 3, "parameters": "fixed"}


@partial(jax.jit, static_argnums=(1, 2))
def log_predictives(tunnel, observations, sequences):
    """A batch, its predictive, T and E [B, …] in float64."""
    tables = tunnel.prepare(observations)
    batch = tunnel.sample(jax.random.key(0), tables, sequences, observations)
    return batch, tunnel.log_predictive(tables, batch, jnp.arange(observations)), tunnel._seen(tables, batch)[0]


def chains(**fields):
    return jax.tree.map(np.asarray, Hmm(**fields)._draw(jax.random.key(1), 300))


def test_mess3_is_the_edge_emitting_process():
    """p(o_t | o_<t) from products of T^(o), as the literature writes them (Marzen & Crutchfield 2017)."""
    x, a = 0.05, 0.85
    y, b = 1 - 2 * x, (1 - a) / 2
    edge = np.array(
        [
            [[a * y, b * x, b * x], [a * x, b * y, b * x], [a * x, b * x, b * y]],
            [[b * y, a * x, b * x], [b * x, a * y, b * x], [b * x, a * x, b * y]],
            [[b * y, b * x, a * x], [b * x, b * y, a * x], [b * x, b * x, a * y]],
        ]
    )
    batch, log_p, _ = log_predictives(arrays(Hmm(target="symbol", **MESS3)), 12, 20)
    for symbols, p in zip(np.asarray(batch.outcome_BP), np.exp(log_p), strict=True):
        belief = np.full(3, 1 / 3)  # stationary, so that an edge earlier makes no difference
        for t, symbol in enumerate(symbols):
            np.testing.assert_allclose(p[t], (belief @ edge).sum(-1), atol=1e-12)
            belief = belief @ edge[symbol] / (belief @ edge[symbol]).sum()


def test_the_example_of_the_docstring():
    tunnel = Hmm(**MESS3)
    batch = Batch(jnp.asarray([[3, 0, 0]]), jnp.zeros((1, 2), int), jnp.ones((1, 2)))
    p = np.exp(tunnel.log_predictive(tunnel.prepare(2), batch, jnp.arange(2)))[0]
    np.testing.assert_allclose(p, [[0.85, 0.075, 0.075], [0.9747, 0.0127, 0.0127]], atol=5e-5)


@pytest.mark.parametrize("mixing", [0.0, 0.6, 0.99])
def test_mixing_is_the_second_eigenvalue(mixing):
    eigenvalues = np.sort(np.abs(np.linalg.eigvals(chains(mixing=mixing).transition)), axis=-1)
    np.testing.assert_allclose(eigenvalues[:, :-1], mixing, atol=1e-6)  # all but the first, which is 1
    np.testing.assert_allclose(eigenvalues[:, -1], 1, atol=1e-6)


@pytest.mark.parametrize(("states", "symbols"), [(5, 5), (3, 8)])
def test_a_header_of_tokens_is_the_truth(states, symbols):
    """Whole hundredths of at least 0.05 that sum to exactly 1.00, in the order the header says, and no favourites."""
    tunnel = Hmm(states=states, symbols=symbols, parameters="tokens")
    batch, _, chain = log_predictives(arrays(tunnel), 3, 3000)
    header = np.asarray(batch.inputs)[:, :-3] - symbols
    split = states * states
    assert header.shape[1] == 3 + split + states * symbols and set(header[:, 0]) == {101}
    assert set(header[:, 1 + split]) == {102} and set(header[:, -1]) == {103}
    rows = header[:, 1 : 1 + split].reshape(-1, states, states), header[:, 2 + split : -1].reshape(-1, states, symbols)
    for cents, truth in zip(rows, chain, strict=True):
        assert (cents.sum(-1) == 100).all() and cents.min() == 5
        np.testing.assert_allclose(cents / 100, truth, rtol=1e-15)
        mean, error = cents.mean((0, 1)), cents.std((0, 1)) / np.sqrt(len(cents) * states)
        assert (np.abs(mean - 100 / cents.shape[-1]) < 5 * error).all()
    assert np.sort(np.abs(np.linalg.eigvals(chain.transition)), axis=-1)[:, -2].max() <= 1 - 0.05 * states + 1e-9
    assert np.asarray(batch.inputs).max() < tunnel.vocabulary and batch.inputs.shape[1] == tunnel.tokens(3)


@pytest.mark.slow
def test_the_published_setting_in_published_numbers():
    """Entropy MAE in bits over 20 observations, S = O = 5, header of tokens (SCIENCE, section 3): uniform 0.417;
    the last 1, 2, 4 observations 0.080, 0.025, 0.0027."""
    tunnel = arrays(Hmm(parameters="tokens"))
    batch, log_p, _ = log_predictives(tunnel, 20, 3000)
    less = jax.jit(lambda batch: tunnel.baselines((), batch, jnp.arange(20), 20))(batch)
    exact = entropy_bits(np.asarray(log_p))
    gap = {name: np.abs(entropy_bits(np.asarray(log_q)) - exact).mean() for name, log_q in less.items()}
    for name, expected in {"prior": 0.417, "last-1": 0.080, "last-2": 0.025, "last-4": 0.0027}.items():
        assert gap[name] == pytest.approx(expected, rel=0.05)


@pytest.mark.slow
def test_thirty_two_thousand_observations():
    """Against products of [S, S] matrices side by side (an associative scan), for a chain that hardly forgets."""
    n, at = 32_000, jnp.asarray([0, 1, 63, 12_345, 31_998, 31_999])

    @jax.jit
    def late(tunnel):
        tables = tunnel.prepare(n)
        batch = tunnel.sample(jax.random.key(0), tables, 1, n)
        chain, log_evidence = tunnel._seen(tables, batch)
        log_step = log_evidence[0, :, :, None] + jnp.log(chain.transition)

        def product(a, b):
            return logsumexp(a[:, :, :, None] + b[:, None], axis=2)

        log_state = jax.nn.log_softmax(logsumexp(lax.associative_scan(product, log_step), axis=1))
        log_state = jnp.concatenate([jnp.full((1, 4), -jnp.log(4.0)), log_state])[at]
        expected = logsumexp(log_state[:, :, None] + jnp.log(chain.emission), axis=1)
        return tunnel.log_predictive(tables, batch, at)[0], expected, tunnel.baselines(tables, batch, at, 20)

    predicted, expected, less = late(arrays(Hmm(states=4, symbols=3, mixing=0.99, target="symbol", parameters="fixed")))
    np.testing.assert_allclose(np.exp(predicted), np.exp(expected), atol=1e-9)
    for log_q in less.values():
        np.testing.assert_allclose(np.exp(log_q).sum(-1), 1, atol=1e-9)


@pytest.mark.slow
def test_a_slow_chain_needs_a_long_memory():
    """The preset `hmm_slow`, past its horizon of 20: the last 8 symbols are not enough, nor are the last 20."""
    tunnel, at = arrays(Hmm(mixing=0.99, symbols=2)), jnp.arange(20, 60)
    batch, log_p, _ = log_predictives(tunnel, 60, 300)
    less = jax.jit(lambda batch: tunnel.baselines((), batch, at, 20))(batch)
    gap = {name: kl_bits(np.asarray(log_p)[:, 20:], np.asarray(log_q)).mean() for name, log_q in less.items()}
    assert gap["last-8"] > 0.3 and gap["last-horizon"] > 0.1


def test_a_fixed_chain_is_the_same_in_both_precisions_and_differs_by_seed():
    tunnel = Hmm(parameters="fixed", parameters_seed=3)
    chain = tunnel.prepare(4)
    with jax.enable_x64(False):
        single = tunnel.prepare(4)
        assert single.transition.dtype == jnp.float32
    np.testing.assert_allclose(single.transition, chain.transition, atol=1e-6)
    assert np.abs(Hmm(parameters="fixed").prepare(4).emission - chain.emission).max() > 0.1


def test_knobs_share_a_program():
    """Mixing and seed are leaves (a mixing that is not given is structure), and can be mapped over."""
    slow = [Hmm(parameters="fixed", mixing=mixing, parameters_seed=seed) for seed, mixing in enumerate([0.1, 0.9])]
    assert jax.tree.structure(slow[0]) == jax.tree.structure(slow[1])
    assert jax.tree.structure(slow[0]) != jax.tree.structure(Hmm(parameters="fixed"))
    both = jax.vmap(lambda tunnel: tunnel.prepare(3).transition)(stack(slow))
    for batch_alone, tunnel in zip(both, slow, strict=True):
        np.testing.assert_allclose(batch_alone, tunnel.prepare(3).transition)


def test_hmmlearn_agrees():
    """An independent forward filter. Its probabilities are smoothed, so only the last of each prefix is ours."""
    hmm = pytest.importorskip("hmmlearn.hmm")
    batch, log_p, chain = log_predictives(arrays(Hmm(states=4, symbols=6)), 8, 3)
    for b in range(3):
        model = hmm.CategoricalHMM(n_components=4)
        model.startprob_, model.transmat_ = np.full(4, 0.25), np.asarray(chain.transition[b])
        model.emissionprob_ = np.asarray(chain.emission[b])
        symbols = np.argmax(batch.inputs[b, 1:, :6], axis=-1)
        for t in range(8):
            expected = model.predict_proba(symbols[: t + 1, None])[-1]
            np.testing.assert_allclose(np.exp(log_p[b, t]), expected, atol=1e-9)


def test_dynamax_agrees():
    """Another independent filter, which gives the predicted and the filtered states and the log-evidence."""
    pytest.importorskip("dynamax")
    from dynamax.hidden_markov_model import hmm_filter

    for target in ("state", "symbol"):
        tunnel = arrays(Hmm(states=4, symbols=6, target=target, mixing=0.9, parameters="fixed"))
        batch, log_p, chain = log_predictives(tunnel, 8, 3)
        transition, emission = (np.asarray(rows[0]) for rows in chain)
        for b in range(3):
            symbols = np.asarray(batch.outcome_BP[b] if target == "symbol" else batch.inputs[b, 1:])
            filtered = hmm_filter(jnp.full(4, 0.25), jnp.asarray(transition), jnp.log(emission.T[symbols]))
            if target == "state":
                expected = np.asarray(filtered.filtered_probs)
            else:
                expected = np.asarray(filtered.predicted_probs) @ emission
                evidence = np.take_along_axis(np.asarray(log_p[b]), symbols[:, None], axis=1).sum()
                assert evidence == pytest.approx(float(filtered.marginal_loglik), abs=1e-9)
            np.testing.assert_allclose(np.exp(log_p[b]), expected, atol=1e-9)

"""The consistency verifier against planted truths: a head that is the posterior, and one that is not trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.composed import study
from tests.instruments.planted import planted, subject
from windtunnel.information import js_bits
from windtunnel.instruments import consistency
from windtunnel.instruments.consistency import line, log

RECALL = "tunnel.bits=6 tunnel.symbols=4 tunnel.prior.scale=4 model.heads=1 model.width=16 train.horizon=24".split()


def test_a_head_that_is_the_posterior_is_recognised(monkeypatch):
    record = consistency.measure(planted(study(*RECALL)))
    (head,) = record["heads"]
    assert head["score"] > 0.999 and max(head["deviation"].values()) < 1e-3
    assert head["slope"] == pytest.approx(1, abs=1e-3) and head["r2"] > 0.999
    for part in ("content", "position"):
        assert head[part] == pytest.approx({"slope": 1, "r2": 1}, abs=1e-3)
    causal = record["causal"]
    assert causal["kl_bits"] < 1e-4
    (effects,) = causal["heads"]
    assert abs(effects["exact"]["bits"]) < 1e-4 and abs(causal["all_exact"]["bits"]) < 1e-4
    assert effects["uniform"]["bits"] > 0.1 and effects["shuffled"]["bits"] > 0.1 and effects["ablated"]["bits"] > 0.1
    (frames,) = causal["frames"]
    assert frames["swapped"]["bits"] > 0.1, "with each other's keys, pairs are mistaken"
    assert frames["counterfactual"] < 1e-4, "and it is just what would be right of data that had been swapped"
    assert head["score"] > head["shuffled_score"] + 0.2 and head["score"] > record["uniform_score"] + 0.2
    assert "is Bayesian" in consistency.lines(record)[0]


@pytest.fixture(scope="module")
def untrained():
    """The verifier on a model that has not been trained."""
    return consistency.measure(subject(study(*RECALL, "model.heads=2", "position=uniform", "seed=3")))


def test_an_untrained_model_is_at_its_null(untrained):
    for head in untrained["heads"]:
        assert abs(head["score"] - untrained["uniform_score"]) < 0.1
        assert abs(head["score"] - head["untrained"]["score"]) < 0.1
        assert abs(head["score"] - head["shuffled_score"]) < 0.1
        assert head["r2"] < 0.05
        assert head["position"]["slope"] == 0, "it adds no prior"


def test_what_stands_in_the_record_is_json_and_is_said_in_words(untrained):
    import json

    from windtunnel.instruments.base import finite

    record = finite(untrained)
    json.dumps(record, allow_nan=False)
    assert consistency.lines(record) and set(consistency.headline(record)) >= {"deviation", "slope", "kl_exact"}


@pytest.mark.parametrize(
    ("overrides", "why"),
    [(("tunnel=recall", "model=gru"), "model gru has no attention"), (("tunnel=regression",), "no weighing of tokens")],
)
def test_what_makes_no_sense_is_said_and_not_faked(overrides, why):
    from windtunnel.instruments.base import Subject

    assert why in consistency.refusal(Subject(study(*overrides), None))


def test_the_divergence_is_one_bit_between_what_does_not_overlap_and_nothing_between_equals():
    p = np.asarray([0.5, 0.5, 0.0])
    with np.errstate(divide="ignore"):
        assert js_bits(log(p), np.log(p)) == pytest.approx(0)
        assert js_bits(log(p), np.log([0.0, 0.0, 1.0])) == pytest.approx(1)
        assert js_bits(log(np.asarray([1.0, 0.0])), np.log([0.5, 0.5])) == pytest.approx(
            0.5 * np.log2(1 / 0.75) + 0.5 * (0.5 * np.log2(0.5 / 0.75) + 0.5 * np.log2(0.5 / 0.25)))  # fmt: skip


def test_the_line_has_an_intercept_for_every_query():
    x = np.random.default_rng(0).normal(size=(5, 9))
    x[0, 4:] = -np.inf  # hypotheses that do not exist
    y = 0.7 * x + np.arange(5)[:, None] * 100
    assert line(x, y) == pytest.approx({"slope": 0.7, "r2": 1})
    assert np.isnan(line(np.zeros((2, 3)), y[:2, :3])["slope"]), "hypotheses that are all alike have no slope"


def tokens(name, *overrides, observations=8, count=2):
    """(tunnel, inputs, exp targets) of a few sequences."""
    tunnel = study(f"tunnel={name}", *overrides).tunnel

    @jax.jit
    def drawn():
        tables = tunnel.prepare(observations)
        batch = tunnel.sample(jax.random.key(0), tables, count, observations)
        return tables, batch, tunnel.token_weights(tables, batch, jnp.arange(observations))

    tables, batch, log_weight = drawn()
    return tunnel, tables, batch, np.exp(np.asarray(log_weight, float))


def test_bijection_weighs_the_value_it_knows_or_all_that_are_eliminated():
    _, _, batch, weight = tokens("bijection_replacement", "tunnel.symbols=4")
    inputs = np.asarray(batch.inputs)
    for b, p in np.ndindex(2, 8):
        asked, pairs = inputs[b, 2 * p], [(inputs[b, 2 * i], 2 * i + 1) for i in range(p)]
        same = [token for key, token in pairs if key == asked]
        expected = np.zeros(inputs.shape[1])
        right = same or [token for _, token in pairs]
        expected[right] = 1 / max(len(right), 1)
        np.testing.assert_allclose(weight[b, p], expected, atol=1e-6)


def test_markov_weighs_what_followed_the_same_context():
    _, _, batch, weight = tokens("markov", "tunnel.order=2", observations=12)
    inputs = np.asarray(batch.inputs)
    for b, p in np.ndindex(2, 12):
        q = p + 2
        right = [s for s in range(3, q + 1) if tuple(inputs[b, s - 2 : s]) == tuple(inputs[b, q - 1 : q + 1])]
        expected = np.zeros(inputs.shape[1])
        expected[right] = 1 / max(len(right), 1)
        np.testing.assert_allclose(weight[b, p], expected, atol=1e-6)


def test_hmm_weighs_evidence_by_what_is_lost_without_it():
    """Against a filter in plain loops."""
    tunnel, tables, batch, weight = tokens("hmm", observations=5)
    chain, _ = jax.jit(tunnel._seen)(tables, batch)
    symbols = np.argmax(np.asarray(batch.inputs)[:, 1:, : tunnel.symbols], axis=-1)
    T, E = (np.asarray(of[0], float) for of in chain)

    def belief(kept, until):
        state = np.full(tunnel.states, 1 / tunnel.states)
        for t in range(until + 1):
            state = state @ T if t else state
            state = state * E[:, symbols[0, t]] if t in kept else state
            state = state / state.sum()
        return state

    for p in range(5):
        full = belief(set(range(5)), p)
        lost = [np.sum(full * np.log(full / belief(set(range(5)) - {s}, p))) for s in range(p + 1)]
        np.testing.assert_allclose(weight[0, p, 1 : p + 2], lost / np.sum(lost), atol=2e-4)
        assert weight[0, p, 0] == 0 and (weight[0, p, p + 2 :] == 0).all()

"""The sequence that a record has for people: it is what the tunnel and the model say, and nothing else."""

import jax
import numpy as np
import pytest

from tests.composed import study
from windtunnel.example import example
from windtunnel.recovery import biases, normalised
from windtunnel.spec import arrays
from windtunnel.train import start

SMALL = "model.width=8 train.horizon=6 evaluate.reach=4".split()


def made(*overrides):
    one = study(*SMALL, *overrides)
    params = jax.tree.map(np.asarray, jax.jit(start)(arrays(one)).params)
    return one, params, example(one, params)


def test_recall_shows_where_the_answer_is_and_where_the_heads_look():
    _, _, shown = made("tunnel.bits=5", "tunnel.symbols=3", "position=bam", "evaluate.reach=4")
    assert [len(word.split()) for word in shown["words"]] == [2] * 6
    letters = {word.split()[0] for word in shown["words"]}
    assert letters <= {"A", "B", "C"} and all(0 <= int(word.split()[1]) <= 5 for word in shown["words"])
    assert shown["attention"].shape == (1, 2, 6, 6) and shown["posterior"].shape == (6, 6)
    for name in ("attention", "posterior", "predictive", "predictive_exact"):
        np.testing.assert_allclose(shown[name].astype(float).sum(-1), 1, atol=5e-3)
    assert not np.triu(shown["posterior"], 1).any() and not np.triu(shown["attention"][0, 0], 1).any()
    # The exact predictive is the posterior, added up over the pairs that store each value.
    value = np.asarray(["ABC".index(word[0]) for word in shown["words"]])
    added = np.stack([shown["posterior"][:, value == v].astype(float).sum(1) for v in range(3)], axis=1)
    np.testing.assert_allclose(added, shown["predictive_exact"], atol=2e-3)


def test_the_priors_are_those_that_recovery_compares():
    one, params, shown = made("tunnel.bits=5", "tunnel.symbols=3", "position=bam")
    learned = params["layers"]["0"]["attention"]["learned"]
    bias_T = biases(one, one.position, learned)[1]
    inside = shown["lag"] < 6
    assert shown["lag"][0] == 0 and shown["lag"][-1] == 23
    np.testing.assert_allclose(
        shown["position_bits"][0, 1, inside], (normalised(bias_T[:6]) / np.log(2))[shown["lag"][inside]], rtol=1e-9
    )
    past = shown["lag"].tolist().index(23)
    step = (bias_T[23] - bias_T[0]) / np.log(2)
    assert shown["position_bits"][0, 1, past] - shown["position_bits"][0, 1, 0] == pytest.approx(step)


def test_what_has_no_attention_or_no_lags_shows_what_it_has():
    _, _, shown = made("tunnel=hmm", "model=gru", "model.layers=1", "train.horizon=6")
    assert set(shown) == {"words", "at", "outcome", "predictive", "predictive_exact"}
    _, _, shown = made(
        "tunnel=bijection", "model=transformer", "tunnel.symbols=5", "train.horizon=null", "evaluate.reach=1"
    )
    assert set(shown) == {"words", "at", "outcome", "predictive", "predictive_exact", "attention"}
    assert len(shown["words"]) == shown["attention"].shape[-1] == 9 and shown["words"][0].isdigit()
    _, _, shown = made("tunnel.bits=5", "tunnel.symbols=3", "position=rope")
    assert "posterior" in shown and "lag" not in shown, "RoPE is no prior"

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


def study_with_example(*overrides):
    composed = study(*SMALL, *overrides)
    params = jax.tree.map(np.asarray, jax.jit(start)(arrays(composed)).params)
    return composed, params, example(composed, params)


def test_recall_shows_where_the_answer_is_and_where_the_heads_look():
    _, _, arrays = study_with_example("tunnel.bits=5", "tunnel.symbols=3", "position=bam", "evaluate.reach=4")
    assert [len(word.split()) for word in arrays["words"]] == [2] * 6
    letters = {word.split()[0] for word in arrays["words"]}
    assert letters <= {"A", "B", "C"} and all(0 <= int(word.split()[1]) <= 5 for word in arrays["words"])
    assert arrays["attention"].shape == (1, 2, 6, 6) and arrays["posterior"].shape == (6, 6)
    for name in ("attention", "posterior", "predictive", "predictive_exact"):
        np.testing.assert_allclose(arrays[name].astype(float).sum(-1), 1, atol=5e-3)
    assert not np.triu(arrays["posterior"], 1).any() and not np.triu(arrays["attention"][0, 0], 1).any()
    # The exact predictive is the posterior, added up over the pairs that store each value.
    value = np.asarray(["ABC".index(word[0]) for word in arrays["words"]])
    added = np.stack([arrays["posterior"][:, value == v].astype(float).sum(1) for v in range(3)], axis=1)
    np.testing.assert_allclose(added, arrays["predictive_exact"], atol=2e-3)


def test_the_priors_are_those_that_recovery_compares():
    composed, params, arrays = study_with_example("tunnel.bits=5", "tunnel.symbols=3", "position=bam")
    learned = params["layers"]["0"]["attention"]["learned"]
    bias_T = np.asarray(biases(composed, composed.position, learned)[1], np.float64)
    inside = arrays["lag"] < 6
    assert arrays["lag"][0] == 0 and arrays["lag"][-1] == 23
    np.testing.assert_allclose(
        arrays["position_bits"][0, 1, inside], (normalised(bias_T[:6]) / np.log(2))[arrays["lag"][inside]], rtol=1e-9
    )
    past = arrays["lag"].tolist().index(23)
    step = (bias_T[23] - bias_T[0]) / np.log(2)
    assert arrays["position_bits"][0, 1, past] - arrays["position_bits"][0, 1, 0] == pytest.approx(step)


@pytest.mark.slow
def test_what_has_no_attention_or_no_lags_shows_what_it_has():
    _, _, arrays = study_with_example("tunnel=hmm", "model=gru", "model.layers=1", "train.horizon=6")
    assert set(arrays) == {"words", "at", "outcome", "predictive", "predictive_exact"}
    _, _, arrays = study_with_example(
        "tunnel=bijection", "model=transformer", "tunnel.symbols=5", "train.horizon=null", "evaluate.reach=1"
    )
    assert set(arrays) == {"words", "at", "outcome", "predictive", "predictive_exact", "attention"}
    assert len(arrays["words"]) == arrays["attention"].shape[-1] == 9 and arrays["words"][0].isdigit()
    _, _, arrays = study_with_example("tunnel.bits=5", "tunnel.symbols=3", "position=rope")
    assert "posterior" in arrays and "lag" not in arrays, "RoPE is no prior"

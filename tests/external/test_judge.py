"""Predictions from outside are judged as those of a native model would be, by every way that leads to the judge."""

import json

import numpy as np
import pytest

import windtunnel
from tests.external.posed import URN, urn
from windtunnel import records
from windtunnel.compare import verdict
from windtunnel.errors import BadInput
from windtunnel.external.commands import export, judge


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("problem") / "urn"
    export([*URN, f"to={folder}", "train=3", "seed=5"])
    return folder


def answer(folder, runs, name="mine", words=(), **arrays):
    """The record of the only study in `runs`, of predictions with the problem's id."""
    about = records.read_json(folder / "problem.json")
    np.savez(runs / "answer.npz", **{"id": about["id"], **arrays})
    judge(folder, runs / "answer.npz", [f"name={name}", f"runs={runs}", *words])
    (path,) = (runs / "external").glob(f"*-{name}-*/result.json")
    return records.read_json(path)


def test_exact_answers_from_the_file_are_exact(folder, tmp_path, capsys):
    with np.load(folder / "evaluation.npz") as asked:
        exact, weight = asked["log_exact"], asked["weight"]
    assert exact.shape == (*weight.shape, 2)
    result = answer(folder, tmp_path, log_q=exact)
    assert abs(result["kl_bits"]) < 1e-7 and abs(result["kl_bits_past"]) < 1e-7 and result["verdict"] == "extrapolates"
    assert result["leak"] is False and abs(result["leak_log10"]) < 1e-5
    assert "took log-probabilities" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_logits_are_judged_up_to_a_constant_of_each_prediction(folder, tmp_path, kind):
    exact, constant = urn().exact.log_predictive, np.random.default_rng(0).uniform(-5, 5, (64, 16, 1))
    result = answer(folder, tmp_path, logits=(exact + constant).astype(kind))
    assert abs(result["kl_bits"]) < (1e-4 if kind == "float16" else 1e-7) and result["verdict"] == "extrapolates"


def test_the_verdict_is_that_of_the_comparator(tmp_path):
    """Of a model that is wrong, in every number, though its record went through a file."""
    posed, random = urn(), np.random.default_rng(1)
    log_q = np.log(random.dirichlet([5, 5], (64, 16)))
    result = posed.judge(log_q, "wrong", runs=tmp_path)
    expected, _ = verdict(posed.problem, posed.exact, log_q)
    assert result["kl_bits"] > 0.01 and result["verdict"] == "fails in range"
    for key in ("kl_bits", "kl_bits_past", "js_bits", "tv", "leak_log10", "equivalent_memory"):
        assert result[key] == pytest.approx(expected[key], rel=1e-6), key


def test_a_reasoner_with_less_gets_the_verdict_that_it_deserves(tmp_path):
    result = urn().judge(urn().exact.baselines["last-horizon"], "less", runs=tmp_path)
    assert result["verdict"] == "stops near the horizon" and result["critical_length"] == 8


def test_a_callable_is_given_inputs_and_tokens(tmp_path):
    """Laplace's rule, written by hand from the inputs: near the exact answers, and far from chance."""

    def laplace(inputs, tokens):
        ones = np.cumsum(inputs == 1, axis=1)[:, tokens]
        seen = np.asarray(tokens)[None]  # token 0 is the start
        p = (ones + 1) / (seen + 2)
        return np.log(np.stack([1 - p, p], axis=-1))

    result = urn().judge(laplace, "laplace", runs=tmp_path)
    assert 0 < result["kl_bits"] < 0.1 * result["baselines"]["prior"]["kl_bits"] + 0.02
    as_logits = urn().judge(lambda *asked: laplace(*asked) + 3, "laplace2", logits=True, runs=tmp_path)
    assert as_logits["kl_bits"] == pytest.approx(result["kl_bits"])


def test_a_model_that_has_seen_the_outcomes_leaks(tmp_path):
    outcome = urn().evaluation.outcome
    result = urn().judge(np.log(np.where(np.eye(2)[outcome] > 0, 0.999, 0.001)), "oracle", runs=tmp_path)
    assert result["verdict"] == "leak" and result["leak_log10"] > 6


def test_the_mass_on_anything_else_is_reported_and_what_is_left_renormalised(folder, tmp_path, capsys):
    exact = urn().exact.log_predictive
    other = np.full(exact.shape[:2], 0.25)
    result = answer(folder, tmp_path, log_q=exact + np.log(0.75), other_mass=other)
    assert result["other_mass"] == result["other_mass_past"] == 0.25 and abs(result["kl_bits"]) < 1e-7
    assert result["other_mass_se"] == 0 and "0.25 of its probability is on anything but" in capsys.readouterr().out
    inside = np.where(np.arange(16) < 8, 0.5, 0.1)[None].repeat(64, axis=0)
    result = answer(folder, tmp_path, "two", log_q=exact + np.log1p(-inside)[..., None], other_mass=inside)
    assert (result["other_mass"], result["other_mass_past"]) == (pytest.approx(0.5), pytest.approx(0.1))


def test_what_is_in_the_folder_is_what_problem_json_says(folder):
    about = records.read_json(folder / "problem.json")
    assert about["id"] == urn().problem.id and about["outcome_tokens"] == [0, 1] and about["vocabulary"] == 3
    assert about["train"] == {"batches": 3, "seed": 5, "axes": "a batch each, in the order of training"}
    assert sorted(path.name for path in folder.iterdir()) == ["evaluation.npz", "problem.json", "train.npz"]
    for file, arrays in about["arrays"].items():
        with np.load(folder / file) as found:
            assert found.keys() == arrays.keys()
            for name, meant in arrays.items():
                assert list(found[name].shape) == meant["shape"] and str(found[name].dtype) == meant["type"]
    with np.load(folder / "train.npz") as train:
        first = next(urn().batches(5))
        assert all((train[name][0] == getattr(first, name)).all() for name in ("inputs", "outcome", "log_exact"))
        assert (train["tokens"] == first.tokens).all()


def test_answers_can_be_left_out_and_a_problem_replaced(tmp_path):
    words = [*URN, f"to={tmp_path / 'x'}"]
    export([*words, "train=1", "text=true"])
    export([*words, "answers=false", "train=0"])
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["evaluation.npz", "problem.json"]
    with np.load(tmp_path / "x" / "evaluation.npz") as asked:
        assert "log_exact" not in asked and asked["outcome"].shape == (64, 16)
    text = (tmp_path / "x" / "problem.json").read_text()
    assert "log_exact" not in json.loads(text)["arrays"]["evaluation.npz"]


def test_a_function_of_the_package_poses_problems():
    assert windtunnel.problem(*URN).problem == urn().problem
    with pytest.raises(BadInput, match="did you mean urn"):
        windtunnel.problem("tunnel=unr")

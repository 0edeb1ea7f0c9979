"""The examples do what they say: short here; whole trainings, beside native ones, among the slow tests."""

import subprocess
import sys

import numpy as np
import pytest

from tests.documented import HERE
from tests.external.posed import URN, urn
from windtunnel import records
from windtunnel.external.commands import export, judge
from windtunnel.records.groups import gather
from windtunnel.records.statistics import interval

DIE = ["tunnel=die", "evaluate.reach=8"]


@pytest.fixture
def examples(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE / "examples"))


def test_the_torch_transformer_learns_and_is_judged(examples, tmp_path):
    pytest.importorskip("torch")
    import torch_transformer

    options = ["train.batch=32", "--learning-rate", "0.01", "--runs", str(tmp_path)]
    untrained, trained = (
        torch_transformer.main([*URN, *options, "--name", name, "--steps", steps])[0]
        for name, steps in (("none", "1"), ("some", "100"))
    )
    assert trained["kl_bits"] < 0.5 * untrained["kl_bits"]
    assert len(list((tmp_path / "external").glob("*/result.json"))) == 2


def test_the_torch_transformer_takes_features_and_is_causal(examples):
    torch = pytest.importorskip("torch")
    import torch_transformer

    model = torch_transformer.Transformer(0, 5, 3)
    inputs = torch.randn(2, 7, 5)
    changed = inputs.clone()
    changed[:, 4:] += 1
    tokens = torch.arange(7)
    one, other = model(inputs, tokens), model(changed, tokens)
    assert one.shape == (2, 7, 3)
    assert torch.equal(one[:, :4], other[:, :4]) and not torch.equal(one[:, 4:], other[:, 4:])


def test_a_llama_is_trained_and_judged_through_files_alone(examples, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import llama

    folder = tmp_path / "urn"
    export([*URN, f"to={folder}", "train=40"])
    llama.main([str(folder), "--steps", "40", "--seeds", "1"])
    with np.load(folder / "predictions-0.npz") as answer:
        assert answer["log_q"].shape == (32, 16, 2) and (answer["other_mass"] > 0).all()
        np.testing.assert_allclose(np.exp(answer["log_q"]).sum(-1) + answer["other_mass"], 1, atol=1e-12)
    judge(folder, folder / "predictions-0.npz", ["name=llama", f"runs={tmp_path}"])
    (path,) = (tmp_path / "external").glob("*-llama-*/result.json")
    result = records.read_json(path)
    assert 0 < result["other_mass"] < 0.2 and result["kl_bits"] < result["baselines"]["prior"]["kl_bits"] + 0.1
    assert result["headroom_bits_past"] > 0 and urn().problem.id == str(np.load(folder / "predictions-0.npz")["id"])


def run(folder, *words):
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_torch_transformer_lands_within_the_interval_of_the_native_one(tmp_path):
    """The same model, optimiser, schedule and batches in two frameworks: over three seeds, the mean log KL of one is
    within the 95 % interval of the other, in range and past the horizon.
    """
    pytest.importorskip("torch")
    run(tmp_path, "-m", "windtunnel.cli", "run", "+sweep=external_native", "position=uniform")
    run(tmp_path, str(HERE / "examples" / "torch_transformer.py"), *DIE, "--seeds", "3")
    native, torch = gather([tmp_path / "runs/external_native", tmp_path / "runs/external"], ["model"])
    assert native.problem == torch.problem and len(native.done) == len(torch.done) == 3
    for metric in ("kl_bits", "kl_bits_past"):
        expected = interval([row[metric] for row in native.done])
        assert expected.low <= torch.interval(metric).mean <= expected.high, (metric, expected)


@pytest.mark.slow
def test_a_llama_learns_the_die_but_not_past_its_positions(tmp_path):
    pytest.importorskip("transformers")
    run(tmp_path, "-m", "windtunnel.cli", "export", *DIE, "train=500", "to=die")
    run(tmp_path, str(HERE / "examples" / "llama.py"), "die", "--steps", "500")
    run(tmp_path, "-m", "windtunnel.cli", "judge", "die", "die/predictions-0.npz", "name=llama")
    (path,) = tmp_path.glob("runs/external/*/result.json")
    result = records.read_json(path)
    assert result["kl_bits"] < 0.005 and result["kl_bits_past"] > 4 * result["kl_bits"]
    assert result["other_mass"] < 0.01

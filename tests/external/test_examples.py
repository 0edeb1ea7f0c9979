"""The examples do what they say: short here; whole trainings, beside native ones, among the slow tests."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.composed import study
from tests.documented import HERE, blocks
from tests.external.posed import URN, urn
from windtunnel import records
from windtunnel.external.commands import export, judge
from windtunnel.records.groups import gather
from windtunnel.records.statistics import interval
from windtunnel.spec import arrays
from windtunnel.train import advance, prepare, start

DIE = ["tunnel=die", "evaluate.reach=8"]


@pytest.fixture
def examples(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE / "examples"))


def test_the_torch_transformer_learns_and_is_judged(examples, tmp_path):
    pytest.importorskip("torch")
    import torch_transformer

    words = [*URN, "train.batch=32", "--learning-rate", "0.01", "--steps", "100", "--runs", str(tmp_path)]
    (verdict,) = torch_transformer.main(words)
    assert verdict["kl_bits"] < 0.5 * verdict["baselines"]["prior"]["kl_bits"]
    assert len(list((tmp_path / "external").glob("urn-torch-seed0-*/result.json"))) == 1


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
        assert answer["log_q"].shape == (64, 16, 2) and (answer["other_mass"] > 0).all()
        np.testing.assert_allclose(np.exp(answer["log_q"]).sum(-1) + answer["other_mass"], 1, atol=1e-12)
    judge(folder, folder / "predictions-0.npz", ["name=llama", f"runs={tmp_path}"])
    (path,) = (tmp_path / "external").glob("*-llama-*/result.json")
    result = records.read_json(path)
    assert 0 < result["other_mass"] < 0.2 and result["kl_bits"] < result["baselines"]["prior"]["kl_bits"] + 0.1
    assert result["headroom_bits_past"] > 0 and urn().problem.id == str(np.load(folder / "predictions-0.npz")["id"])


def test_a_language_model_reads_prompts_in_context(tmp_path, monkeypatch, capsys):
    """The code of docs/external.md, with a tokenizer of these words and a Llama of random initialisation."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    monkeypatch.chdir(tmp_path)
    export([*URN, "text=true", "to=die_text"])
    words = ["start", " A", " B", " and", " then"]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=" and")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r" ?\w+"), "isolated")
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained("model")
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=5, **small)).save_pretrained("model")
    (code,) = (block for block in blocks(HERE / "docs" / "external.md", "python") if "AutoTokenizer" in block)
    capsys.readouterr()
    exec(code.replace('"…"', '"model"'), {})
    judge(tmp_path / "die_text", tmp_path / "predictions.npz", ["name=lm", f"runs={tmp_path}"])
    (path,) = (tmp_path / "external").glob("*-lm-*/result.json")
    assert 0.4 < records.read_json(path)["other_mass"] < 0.8, "three of five words are no outcomes"
    assert "of its probability is on anything but the outcomes" in capsys.readouterr().out


def run(folder, *words):
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_from_the_native_parameters_the_torch_transformer_has_the_native_losses(examples):
    """Over fifty steps of the same batches: model, loss, optimiser and schedule are the same, whatever seeds do."""
    torch = pytest.importorskip("torch")
    import torch_transformer

    words = [*URN, "position=uniform", "train.optimizer=adamw", "train.learning_rate=0.005", "train.steps=50", "seed=1"]
    native = arrays(study(*words))
    state = jax.jit(start)(native)
    _, curves = jax.jit(advance)(native, prepare(native), state, jnp.asarray(50))
    model = torch_transformer.Transformer(3, 0, 2)
    load(model, jax.tree.map(np.array, state.params), torch)
    losses = []

    def spied():
        """The batches of this seed, and the loss on each before it is trained on."""
        for batch in urn().batches(1):
            with torch.no_grad():
                log_q = model(torch.tensor(batch.inputs), torch.tensor(batch.tokens)).log_softmax(-1).numpy()
            losses.append(-(np.exp(batch.log_exact) * log_q).sum(-1).mean() / np.log(2))
            yield batch

    torch_transformer.train(model, spied(), 50, 0.005)
    np.testing.assert_allclose(losses[:50], curves["cross_entropy_bits"][:50], atol=1e-4)
    assert np.ptp(losses) > 0.02, "it learned something in between"


def load(model, params, torch):
    """Parameters of a native transformer of one layer; the kernels of PyTorch are transposed."""
    layer, block = params["layers"]["0"], model.blocks[0]
    linears = {getattr(block, name): layer["attention"][name] for name in ("query", "key", "value", "output")}
    linears |= {block.up: layer["up"], block.down: layer["down"], model.head: params["head"]}
    for linear, of in linears.items():
        linear.weight.data = torch.tensor(of["kernel"].T)
        if linear.bias is not None:
            linear.bias.data = torch.tensor(of["bias"])
    model.embedding.weight.data = torch.tensor(params["embedding"]["embedding"])


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

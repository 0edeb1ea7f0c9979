"""What cannot be judged is refused in one clear line, and nothing is written."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.documented import HERE, write
from tests.external.posed import URN, urn
from windtunnel import plugins
from windtunnel.errors import BadInput
from windtunnel.external.commands import export, judge
from windtunnel.tunnels import TUNNELS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("problem") / "urn"
    export([*URN, f"to={folder}"])
    return folder


def refused(function, *arguments):
    """The line in which it is refused."""
    with pytest.raises(BadInput) as caught:
        function(*arguments)
    line = str(caught.value)
    assert "\n" not in line
    return line


def log_q():
    return urn().exact.log_predictive.astype(np.float64)


def changed(at, value):
    values = log_q()
    values[at] = value
    return values


ID = urn().problem.id
GIVEN = {
    "id": (lambda: {"id": "0123456789", "log_q": log_q()}, f"answers the problem 0123456789, and this one is {ID}"),
    "no id": (lambda: {"log_q": log_q()}, f"has no id; add id='{ID}'"),
    "shape": (lambda: {"id": ID, "log_q": log_q()[:, 1:]}, "log_q has shape [64, 15, 2]; should be [64, 16, 2]"),
    "axes": (lambda: {"id": ID, "logits": log_q().transpose(1, 0, 2)}, "logits has shape [16, 64, 2]"),
    "order": (
        lambda: {"id": ID, "log_q": log_q()[..., ::-1]},
        "outcomes seem to be in another order: with the columns [1, 0] KL falls from",
    ),
    "nan": (
        lambda: {"id": ID, "log_q": changed((3, 5, 0), np.nan)},
        "log_q is not a number at sequence 3, prediction 5 (1 in all)",
    ),
    "infinite": (
        lambda: {"id": ID, "logits": changed((3, 5, 0), np.inf)},
        "logits is not a number at sequence 3, prediction 5 (1 in all)",
    ),
    "nothing": (
        lambda: {"id": ID, "logits": changed((3, 5), -np.inf)},
        "logits allows no outcome at sequence 3, prediction 5 (1 in all)",
    ),
    "sum": (
        lambda: {"id": ID, "log_q": changed((3, 5), np.log([0.3, 0.3]))},
        "should sum to one; the largest deviation is 0.4, at sequence 3, prediction 5 (if they are not normalised,",
    ),
    "logits as log_q": (lambda: {"id": ID, "log_q": log_q() + 900}, "the largest deviation is inf"),
    "sum with others": (
        lambda: {"id": ID, "log_q": log_q(), "other_mass": np.full((64, 16), 0.1)},
        "log_q: with other_mass they should sum to one; the largest deviation is 0.1",
    ),
    "other mass": (
        lambda: {"id": ID, "log_q": log_q(), "other_mass": np.full((64, 16), -0.1)},
        "other_mass should be [64, 16] probabilities",
    ),
    "other shape": (
        lambda: {"id": ID, "log_q": log_q(), "other_mass": np.zeros(16)},
        "other_mass should be [64, 16] probabilities",
    ),
    "integers": (lambda: {"id": ID, "logits": np.ones((64, 16, 2), int)}, "logits is int64; should be floats"),
    "both": (
        lambda: {"id": ID, "log_q": log_q(), "logits": log_q()},
        "holds id, log_q, logits; give one of log_q (nats) and logits",
    ),
    "neither": (lambda: {"id": ID, "q": log_q()}, "holds id, q; give one of log_q (nats) and logits"),
    "objects": (lambda: {"id": ID, "log_q": np.asarray([None, 1])}, "is no npz file of plain arrays"),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_predictions_that_cannot_be_judged(folder, tmp_path, kind):
    arrays, expected = GIVEN[kind]
    np.savez(tmp_path / "answer.npz", **arrays())
    line = refused(judge, folder, tmp_path / "answer.npz", ["name=x", f"runs={tmp_path / 'runs'}"])
    assert line.startswith(f"{tmp_path / 'answer.npz'}: ") and expected in line
    assert not (tmp_path / "runs").exists()


def test_an_order_that_the_exact_answers_do_not_contradict_is_no_error(tmp_path):
    """A model that is wrong, but not by its order, and one that knows nothing."""
    random = np.random.default_rng(0)
    for name, values in (("noise", random.normal(size=(64, 16, 2)) * 3), ("nothing", np.zeros((64, 16, 2)))):
        assert urn().judge(values, name, logits=True, runs=tmp_path)["kl_bits"] > 0.05


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is no npz file"),
        (b"PK\x03\x04 cut off", "is no npz file"),
        (b"text", "is no npz file"),
        (None, "no such file"),
    ],
)
def test_files_that_are_none(folder, tmp_path, content, expected):
    if content is not None:
        (tmp_path / "answer.npz").write_bytes(content)
    assert expected in refused(judge, folder, tmp_path / "answer.npz", ["name=x"])


def test_a_single_array_or_a_folder_is_no_npz_file(folder, tmp_path):
    np.save(tmp_path / "answer.npy", log_q())
    for file in (tmp_path / "answer.npy", tmp_path):
        assert "is no npz file" in refused(judge, folder, file, ["name=x"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: "", "problem.json: cannot be read"),
        (lambda text: "[1, 2]", "problem.json: cannot be read"),
        (lambda text: text[:100], "problem.json: cannot be read"),
        (lambda text: "{}", "problem.json: cannot be read"),
        (lambda text: text.replace('"schema": 1', '"schema": 2'), "has schema 2, and this version reads 1"),
        (lambda text: text.replace('"batch": 4', '"batch": "4"'), "batch: missing, or no int"),
        (lambda text: text.replace('"problem": {', '"problems": {'), "problem: missing, or no dict"),
        (lambda text: text.replace('"noise": 0.1', '"noise": 0.7'), "tunnel.noise=0.7: should be less than or equal"),
        (lambda text: text.replace('"noise": 0.1', '"noise": 0.2'), f"its id is {ID}, and that of its problem"),
        (lambda text: text.replace('"sequences": "', '"sequences": "x'), "draws other sequences for its problem"),
    ],
)
def test_a_problem_that_is_not_the_one_that_was_exported(folder, tmp_path, change, expected):
    text = (folder / "problem.json").read_text()
    assert change(text) != text
    (tmp_path / "problem.json").write_text(change(text))
    assert expected in refused(judge, tmp_path, tmp_path / "answer.npz", ["name=x"])


def test_a_folder_without_a_problem(tmp_path):
    assert "holds no problem.json; `windtunnel export …" in refused(judge, tmp_path, tmp_path / "a.npz", ["name=x"])
    assert "holds no problem.json" in refused(judge, tmp_path / "none", tmp_path / "a.npz", ["name=x"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "name: missing"),
        (["name="], "name: missing"),
        (["name=a/b"], "name=a/b: should be of letters, digits and . _ + -"),
        (["name=" + "x" * 65], "at most 64 of them"),
        (["name=x", "seed=-1"], "seed=-1: should be a whole number, not negative"),
        (["name=x", "seed=a"], "seed=a: should be a whole number, not negative"),
        (["nam=x"], "nam=x: no such word; valid: name=…, seed=…, runs=…, plugins=…"),
        (["name"], "name: no such word; valid: name=…"),
    ],
)
def test_words_of_judge(folder, words, expected):
    assert expected in refused(judge, folder, folder / "answer.npz", words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tunnel=urn"], "to: missing"),
        (["to=x", "train=-1"], "train=-1: should be a whole number of batches, not negative"),
        (["to=x", "train=1.5"], "train=1.5: should be a whole number of batches"),
        (["to=x", "train="], "train=: should be a whole number of batches"),
        (["to=x", "train=none"], "train=none: no such name; valid: default, long"),
        ([*URN, "to=x", "train=100000000"], "train=100000000: are 64.0 GB; at most 3125000 batches are written"),
        (["to=x", "answers=no"], "answers=no: should be true or false"),
        (["to=x", "text=1"], "text=1: should be true or false"),
        (["to=x", "tunel=urn"], "tunel: no such name; did you mean tunnel?"),
        ([*URN, "to=x", "text.separator=123456789"], "text.separator=123456789: "),
        ([*URN, "to=x", "text.symbols=runes"], "text.symbols=runes: letters, numbers, or a list of words"),
        ([*URN, "to=x", "text.symbols=[a,b]"], "text.symbols: has 2 different words; tunnel=urn has 3 tokens"),
        ([*URN, "to=x", "text.symbols=[a,b,a]"], "text.symbols: has 2 different words; tunnel=urn has 3 tokens"),
        ([*URN, "to=x", "text.start=perhaps"], "text.start=perhaps: should be a valid boolean"),
        (["to=x", "text=true"], "text: the inputs of tunnel=recall are features, not tokens"),
    ],
)
def test_words_of_export(tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    assert expected in refused(export, words)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_folders_that_are_not_ours(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    (tmp_path / "file").write_text("")
    assert "is no empty folder, and holds no problem" in refused(export, [*URN, f"to={tmp_path / 'full'}"])
    assert "is a file; give a folder" in refused(export, [*URN, f"to={tmp_path / 'file'}"])
    assert "cannot be written to" in refused(export, [*URN, f"to={tmp_path / 'file' / 'x'}"])
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_the_command_ends_with_one_line_and_exit_code_2(tmp_path):
    words = [sys.executable, "-m", "windtunnel.cli", "judge", "nowhere", "answer.npz", "name=x"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    assert done.stderr.startswith("windtunnel: nowhere: holds no problem.json")


@pytest.fixture
def coin(tmp_path, monkeypatch):
    """coin.py in the working folder, and a YAML for it; afterwards everything is as it was."""
    before = list(TUNNELS.own), dict(plugins.judges), dict(plugins.loaded)
    write(HERE / "docs" / "adding-a-tunnel.md", tmp_path)
    monkeypatch.chdir(tmp_path)

    def forget():
        TUNNELS.own[:] = before[0]
        for kept, now in zip(before[1:], (plugins.judges, plugins.loaded), strict=True):
            now.clear()
            now.update(kept)

    yield tmp_path, forget
    forget()


def test_the_code_of_a_plugin_runs_only_where_it_is_named(coin):
    folder, forget = coin
    (folder / "coin.py").write_text((folder / "coin.py").read_text() + '\nopen("ran", "a").write("x")\n')
    site = f"hydra.searchpath=[file://{folder / 'my'}]"
    problem = [site, "tunnel=coin", "train.horizon=4", "evaluate.reach=1", "evaluate.examples=4"]
    export([*problem, "to=problem"])
    about = json.loads((folder / "problem" / "problem.json").read_text())
    assert about["plugins"] == [str(folder / "coin.py")]
    with np.load("problem/evaluation.npz") as asked:
        np.savez("answer.npz", id=about["id"], log_q=asked["log_exact"])
    forget()
    (folder / "ran").unlink()
    line = refused(judge, folder / "problem", folder / "answer.npz", ["name=x"])
    assert "needs the code of a plug-in; to run it, name it too: plugins=" in line and not (folder / "ran").exists()
    (folder / "elsewhere").mkdir()
    (folder / "coin.py").rename(folder / "elsewhere" / "coin.py")
    judge(folder / "problem", folder / "answer.npz", ["name=x", "plugins=elsewhere/coin.py"])
    assert (folder / "ran").exists() and list((folder / "runs" / "external").glob("coin-x-seed0-*/result.json"))

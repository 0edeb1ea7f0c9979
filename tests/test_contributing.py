"""What CONTRIBUTING.md shows as a plug-in is one: a position, a model, a loss term and an instrument, as it is printed.

They train together once, in a process of their own, among the slow tests; then each is looked at.
"""

import json
import os
import shlex
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import windtunnel
from tests import commanded, composed
from tests.composed import TINY
from tests.documented import HERE, commands, files, write
from tests.foreign import forgotten
from windtunnel import config, door, evaluate, plugins, records, spec, train
from windtunnel.errors import BadInput
from windtunnel.information import kl_bits
from windtunnel.instruments import dynamics
from windtunnel.problem import exact_program

PAGE = HERE / "CONTRIBUTING.md"
LIST, RUN, PROBE = (
    shlex.split(command.text)[1:] for command in commands(PAGE) if command.text.startswith("windtunnel")
)
# One of the models has no MLP; Muon takes longest to compile.
SMALL = [*(word for word in TINY if not word.startswith("model.hidden")), "model.layers=1", "train.optimizer=adamw"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the page's files."""
    folder = tmp_path_factory.mktemp("home")
    write(PAGE, folder)
    return folder


@pytest.fixture(scope="module")
def home(folder):
    """The folder, in which the page's sweep has run."""
    words = [sys.executable, "-m", "windtunnel.cli", *RUN, *SMALL]
    quick = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}  # programs that run for a moment
    done = subprocess.run(words, cwd=folder, env=quick, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with forgotten():
        yield folder


@pytest.fixture
def studies(home):
    """{model: folder}"""
    folders = {records.row(folder)["model"]: folder for folder in records.studies(home / "runs/mine")}
    assert folders.keys() == {"transformer", "linear"}
    return folders


def test_each_costs_a_file_and_a_yaml_of_a_few_lines():
    code = {name: text.count("\n") for name, text in files(PAGE).items() if name.endswith(".py")}
    assert code.keys() == {"cauchy.py", "linear.py", "activity.py", "spread.py"}
    assert all(10 <= lines <= 50 for lines in code.values()), code
    assert {"my/position/cauchy.yaml", "my/model/linear.yaml", "my/term/activity.yaml"} < files(PAGE).keys()


@pytest.mark.slow
def test_they_train_and_are_judged(studies):
    """Each study's record names the files that it needs, and its learning curve has every term."""
    needs = {name: {"activity.py", f"{name}.py"} for name in ("cauchy", "linear")}
    for model, own in (("transformer", "cauchy"), ("linear", "linear")):
        folder = studies[model]
        assert {path.rsplit("/", 1)[1] for path in records.read_json(folder / "study.json")["plugins"]} == needs[own]
        curves = records.read_learning_curve(folder / "train.jsonl")
        assert set(curves) == {"step", "kl_bits", "cross_entropy_bits", "activity"}
        assert all(np.isfinite(curve).all() for curve in curves.values()) and len(curves["step"]) == 4
        row = records.row(folder)
        assert row["status"] == "done" and row["leak"] is False and row["train.terms.activity.strength"] == 0.01
    assert records.row(studies["linear"])["position"] is None, "it takes none, and the sweep's is left out"


def test_list_shows_them(folder):
    code, out, _ = commanded.windtunnel(folder, *LIST)
    assert code == 0
    after = {line.strip() for line in out.split("+term=")[1].splitlines()[1:5]}
    assert "activity    the mean square of the residual stream" in after
    for name in ("cauchy", "linear", "mine", "recall", "alibi"):
        assert f"  {name} " in out


@pytest.mark.slow
def test_the_instrument_looks_into_what_it_makes_sense_for(here, studies):
    code, out, err = commanded.windtunnel(here, *PROBE)
    assert code == 0, err
    assert "spread: tokens attended to, by layer and head: [[" in out
    assert "spread: model linear has no attention" in out
    spread = {model: json.loads((folder / "probe.json").read_text())["spread"] for model, folder in studies.items()}
    assert np.shape(spread["transformer"]["trained"]) == np.shape(spread["transformer"]["untrained"]) == (1, 2)
    assert np.min(spread["transformer"]["trained"]) >= 1 and np.max(spread["transformer"]["trained"]) <= 6
    assert spread["linear"] == {"skipped": "model linear has no attention"}


@pytest.mark.slow
def test_a_study_comes_back_and_its_code_only_where_it_is_trusted(here, studies):
    """The position's class, and the model that was judged; from the record alone, nothing."""
    folder = studies["transformer"]
    for named in ([], ["cauchy.py"]):
        with pytest.raises(BadInput, match=r"needs the code of a plug-in; to run it, name it too: plugins=.*--trust$"):
            windtunnel.load(folder, named)
    assert "cauchy" not in spec.names(config.AnyPosition)
    study, _, params = windtunnel.load(folder, trust=True)
    assert study.position.name == "cauchy" and study.train.terms["activity"].kinds == ("residual",)
    exact = exact_program(study.problem)
    log_q = jax.jit(evaluate.predict)(study, params, jnp.arange(study.evaluate.examples)).log_predictive
    bins = study.problem.bins
    kl_BP = kl_bits(np.asarray(exact.log_predictive), np.asarray(log_q))
    assert np.average(kl_BP.mean(axis=0), weights=bins.inside_P) == pytest.approx(
        records.row(folder)["kl_bits"], rel=1e-3
    )


@pytest.mark.slow
def test_forces_are_those_of_cross_entropy_whatever_other_terms_want_to_see(here, studies):
    """Only traced: a term that looked for what it wants would find nothing."""
    study, _, params = windtunnel.load(studies["transformer"], trust=True)
    force = jax.eval_shape(lambda params: dynamics.forces(study, params, 2, train.model), params)
    assert force.scores[0].shape == (2, 2, 6, 6)


def test_each_part_of_a_configuration_brings_its_own(here):
    """Beside those that are named once for all; the door never sees where a part comes from."""
    beside = "hydra.searchpath=[file://my]"
    plain = composed.plain(beside, "position=cauchy", "+term=activity", "plugins=[linear.py]")
    assert plain["plugins"] == ["linear.py", "cauchy.py", "activity.py"]
    assert plain["position"] == {"name": "cauchy", "scale": 8.0}
    assert plain["train"]["terms"] == {"activity": {"name": "activity", "strength": 0.01}}
    study = door.configuration(plain)[0]
    assert {source.rsplit("/", 1)[1] for source in plugins.sources(study)} == {"cauchy.py", "activity.py"}
    with pytest.raises(BadInput, match=r"^position\.plugin=3: should be a file or a module$"):
        composed.plain(beside, "position=cauchy", "position.plugin=3")


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"mine": {"name": "activiti"}}, "train.terms.mine=activiti: no such name; did you mean activity?"),
        (
            {"mine": {"name": "activity", "strenth": 1}},
            "train.terms.mine.strenth: no such name; did you mean strength?",
        ),
        (
            {"activity": {"name": "activity", "strength": "x"}},
            "train.terms.activity.strength=x: should be a valid numb",
        ),
        ({"mine": {"strength": 1}}, "train.terms.mine: has no name; valid: domain, separation, reward, activity"),
    ],
)
def test_a_term_that_is_wrong_is_answered_in_one_line(here, terms, said):
    plain = {key: value for key, value in composed.plain().items() if key not in config.SETTINGS}
    with pytest.raises(BadInput) as error:
        door.study({**plain, "train": {**plain["train"], "terms": terms}}, ["activity.py"])
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


def test_without_the_plug_in_its_name_is_not_valid():
    plain = {key: value for key, value in composed.plain().items() if key not in config.SETTINGS}
    with pytest.raises(
        BadInput, match=r"^train\.terms\.mine=activity: no such name; valid: domain, separation, reward$"
    ):
        door.study({**plain, "train": {**plain["train"], "terms": {"mine": {"name": "activity"}}}})

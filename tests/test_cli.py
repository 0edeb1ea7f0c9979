"""The command line as people meet it: one line and exit code 2 for bad input, whoever found it."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests import commanded
from tests.composed import TINY
from windtunnel import cli, records

COMMANDS = ("--help", "run --help", "list", "--version")


def windtunnel(folder, *arguments):
    """(exit code, stdout, stderr) of the command, typed in this folder."""
    done = subprocess.run(
        [sys.executable, "-m", "windtunnel.cli", *arguments], cwd=folder, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


BAD = pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run tunel=recall", "tunel: no such name; did you mean tunnel?"),
        ("run tunnel=recal", "tunnel=recal: no such name; did you mean recall?"),
        ("run tunnel.nosie=0.1", "tunnel.nosie: no such name; did you mean noise?"),
        ("run tunnel.noise=0.7", "tunnel.noise=0.7: should be less than or equal to 0.5"),
        ("run tunnel.noise=", "tunnel.noise"),
        ("run tunnel=bijection prior=uniform", "tunnel.prior: no such name; valid: pool, pool_seed, symbols"),
        ("run position=null", "a group takes a name, not null"),
        ("run +sweep=extrapolatoin", "sweep=extrapolatoin: no such name; did you mean extrapolation?"),
        ("run -m seed=0,1 model.heads=3", "model.heads=3: must divide model.width=64"),
        ("run -m model.heads=2,3", "model.heads=3: must divide model.width=64"),
        ("run -m -c job seed=0,1", "Only one of --run, --multirun, --cfg"),
        ("run --bold", "--bold: no such name; valid: "),
        ("run 'seed=(0'", "seed=(0"),
        ("run tracker=mlflow", "tracker=mlflow: should be 'tensorboard', 'trackio' or 'wandb'"),
        ("run --dry", "--dry: no such name; did you mean --dry-run?"),
        ("status nowhere", "nowhere: no records here"),
        ("evaluate nowhere reach=3", "nowhere: no records here"),
        ("table nowhere", "nowhere: no records here"),
        ("evaluate", "the following arguments are required: folder"),
        ("fly", "invalid choice: 'fly'"),
        ("", "the following arguments are required: COMMAND"),
        ("run runs=/dev/null/x", "runs=/dev/null/x/single: cannot be written to"),
        ("run term=spread", "term: is added to the configuration: +term=NAME"),
    ],
)


@pytest.mark.parametrize(("said", "left"), [(None, "3"), ("1", "3"), ("0", "0"), ("2", "2")])
def test_xla_says_only_what_is_fatal_unless_somebody_asked_for_more(monkeypatch, capsys, said, left):
    """1 is what JAX leaves behind in a script, and nobody's wish."""
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", said or "")
    if said is None:
        monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    monkeypatch.setattr("sys.argv", ["windtunnel", "list"])
    cli.main()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == left


@BAD
def test_bad_input_is_answered_in_one_line_with_exit_code_2(tmp_path, arguments, message):
    """In this process: none of these gets as far as to train."""
    one_line(tmp_path, commanded.windtunnel(tmp_path, *arguments.replace("'", "").split()), message)


# What ends in Hydra, what ends at our door, and what ends in argparse.
WAYS = ["run tunel=recall", "run -m model.heads=2,3", "fly"]


@pytest.mark.parametrize("arguments", WAYS)
def test_so_is_it_by_a_process(tmp_path, arguments):
    ended = windtunnel(tmp_path, *arguments.split())
    one_line(tmp_path, ended, "")
    assert ended == commanded.windtunnel(tmp_path, *arguments.split())


def one_line(folder, ended, message):
    code, out, err = ended
    assert (code, out) == (2, "") and message in err
    assert err.startswith("windtunnel: ") and err.count("\n") == 1
    assert not list(folder.iterdir()), "nothing is left behind"


@pytest.mark.parametrize("arguments", COMMANDS)
def test_what_only_informs_needs_neither_jax_nor_hydra(arguments):
    """Half a second is the promise, and those imports alone would break it."""
    code = (
        "import sys; from windtunnel.cli import main; sys.argv = ['windtunnel', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit: pass\n"
        "assert not {'jax', 'hydra', 'flax', 'scipy', 'matplotlib'} & set(sys.modules), sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_list_names_every_choice(tmp_path):
    code, out, _ = commanded.windtunnel(tmp_path, "list")
    assert code == 0 and "+sweep=" in out and "+term=" in out, "what is added is offered with its plus"
    for name in ("recall", "bijection", "generalized_gaussian", "bam", "rope", "extrapolation", "smoke", "long"):
        assert name in out


def test_a_study_from_command_to_verdict_and_again(tmp_path):
    keep = [f"compilation_cache={tmp_path / 'cache'}", "tracker=tensorboard"]
    code, out, err = windtunnel(tmp_path, "run", *TINY, *keep)
    assert code == 0, err
    assert "KL (bits)" in out and "last-horizon" in out and "records in runs/single/" in out
    folder = next((tmp_path / "runs" / "single").glob("recall-*"))
    code, again, _ = windtunnel(tmp_path, "table", str(folder.relative_to(tmp_path)))
    assert code == 0 and again in out, "the verdict is a function of the records"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "runs"], "Hydra left nothing"
    assert list((tmp_path / "runs/single/tensorboard" / folder.name).iterdir())

    (kept,) = (tmp_path / "cache").iterdir()
    compiled = {path.name for path in kept.iterdir()}
    assert any("jit_advance" in name for name in compiled) and any(".program" in name for name in compiled), compiled
    code, out, err = windtunnel(tmp_path, "run", *TINY, *keep, "--force")
    assert code == 0 and "records in runs/single-2/" in out, err
    assert {path.name for path in kept.iterdir()} == compiled, "another process finds all that it needs"
    (note,) = (tmp_path / "runs/single-2/packs").glob("*.json")
    assert records.read_json(note)["compilations"] == 0 and records.read_json(note)["found_compiled"] >= 5
    for name in ("result.json", "curves.npz", "train.jsonl"):
        assert (folder / name).read_bytes() == (tmp_path / "runs/single-2" / folder.name / name).read_bytes(), name


def test_a_dry_run_says_what_would_run_and_writes_nothing(tmp_path):
    code, out, err = commanded.windtunnel(tmp_path, "run", "-m", *TINY, "seed=0,1", "--dry-run")
    assert code == 0, err
    assert "2 studies, 0 of them done" in out and out.count("waiting") == 2 and "seed=1" in out
    assert re.search(
        r"pack 1/1: recall \(2 studies\) of 516 parameters; a device needs \d+ kB to train them, "
        r"\d+ kB to judge, and has [\d.]+ [MG]B \(\d+ cpu devices?\)\n",
        out,
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_multirun_from_command_to_answer(tmp_path):
    overrides = [*TINY, "seed=range(2)", "question=Which?"]  # the pack that other tests compile as well
    code, out, err = commanded.windtunnel(tmp_path, "run", "-m", *overrides)
    assert code == 0, err
    assert "2 studies, 0 of them done; 1 packs to run" in out
    assert "Which?" in out and "results.csv" in out and "kl_against_length.png" in out
    root = next((tmp_path / "runs").iterdir())
    assert root.name.startswith("multirun-")
    code, again, _ = commanded.windtunnel(tmp_path, "table", str(root.relative_to(tmp_path)))
    assert code == 0 and again.splitlines()[-1] == out.splitlines()[-1], "the answer is a function of the records"
    code, out, _ = commanded.windtunnel(tmp_path, "run", "-m", *overrides)
    assert code == 0 and "2 studies, 2 of them done; 0 packs to run" in out


@pytest.mark.slow
def test_other_launchers_work_too(tmp_path):
    """Users bring launchers of their own: each point then runs alone, and lands where the packed launcher finds it."""
    sweep = [*TINY, "+sweep=smoke", "position=generalized_gaussian", "tunnel.noise=0.1,0.2", "seed=0", "runs=out"]
    code, _, err = commanded.windtunnel(tmp_path, "run", *sweep, "hydra/launcher=basic")
    assert code == 0, err
    assert len(list((tmp_path / "out/smoke").glob("*/result.json"))) == 2
    code, out, err = commanded.windtunnel(tmp_path, "run", *sweep)
    assert code == 0 and "2 studies, 2 of them done; 0 packs to run" in out, err
    code, _, err = commanded.windtunnel(tmp_path, "run", *sweep, "hydra/launcher=basic", "tunnel.bits=4")
    assert code == 2 and "tunnel.bits=4: out/smoke holds a sweep with tunnel.bits=3; --force starts" in err
    assert err.count("\n") == 1
    code, _, err = commanded.windtunnel(tmp_path, "run", *sweep, "hydra/launcher=basic", "--force")
    assert code == 2 and err.startswith("windtunnel: --force: hydra/launcher=basic runs every point on its own")


@pytest.mark.slow
def test_joblib_starts_processes_of_its_own(tmp_path):
    """By loky, which spawns: one study ends, one fails, and the command says so."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    sweep = [*TINY, "train.clip=1e30", "train.learning_rate=0.05,1e30", "hydra/launcher=joblib"]
    code, out, err = windtunnel(tmp_path, "run", "-m", *sweep)
    assert code == 1 and "failed, the loss was not finite at step" in out, err
    assert len(list((tmp_path / "runs/multirun").glob("*/result.json"))) == 1
    notes = records.notes(tmp_path / "runs/multirun")
    assert len({note["process"] for note in notes}) == 2


def test_a_failed_study_is_exit_code_1(tmp_path):
    code, out, _ = commanded.windtunnel(tmp_path, "run", *TINY, "train.learning_rate=1e30", "train.clip=1e30")
    assert code == 1 and "failed, the loss was not finite at step" in out


def test_the_command_is_installed():
    assert shutil.which("windtunnel", path=str(sys.prefix + "/bin"))

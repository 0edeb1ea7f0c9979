"""Nonsense on the command line: one line, exit code 2, nothing left behind; all in this process."""

import json
import os
import subprocess
import sys

import pytest

from tests import commanded
from tests.sweep.commands import command

LONG = "x" * 300
CASES = [
    ("run ~model", "model: missing"),
    ("run ~tunnel", "tunnel: missing"),
    ("run train.steps=99999999999999999999999", "train.steps=99999999999999999999999: should be less than 2147483648"),
    ("run tunnel=urn tunnel.pool=99999999999999", "tunnel.pool=99999999999999: should be less than 2147483648"),
    (f"run runs={LONG}", "File name too long"),
    (f"status {LONG}", "File name too long"),
    (f"run {'k' * 5000}=1", "File name too long"),
    (f"run seed={'9' * 5000}", "seed=999"),
    (f"run seed={'[' * 200}{']' * 200}", "too deeply nested"),
    ("run hydra.run.dir=/proc/x", "/proc/x: No such file or directory"),
    ("run --resolve", "--resolve: goes with --cfg job"),
    ("run --package x", "--package x: goes with --cfg job"),
    ("run --cfg", "--cfg/-c: expected one argument"),
    ("run -cd", "--config-dir/-cd: expected one argument"),
    ("run --package", "--package/-p: expected one argument"),
    ("run --info=nosuch", "--info/-i: invalid choice: 'nosuch'"),
    ("run --dry-run=false", "--dry-run=false: takes no value; give --dry-run alone"),
    ("run -m seed=range(0)", "seed=range(0): a sweep over nothing"),
    ("run -m seed=range(5,1)", "seed=range(5,1): a sweep over nothing"),
    ("run -m seed=glob(*)", "seed=glob(*): a sweep over nothing"),
    ("run -m position=glob(z*)", "position=glob(z*): a sweep over nothing"),
    ("run -m tunnel.noise=range(1,2,0)", "tunnel.noise=range(1,2,0): cannot be composed"),
    ("run -m seed=range(1e9)", "seed=range(1e9): makes 1e+09 points; a sweep has at most 100,000"),
    ("run -m hydra.sweeper.params={a:1}", "a: no such name; valid: bayesian_attention, "),
    ("run tunnel.hypotheses=[1]", "tunnel.hypotheses=[1]: should be a whole number; valid: 2, 4, 8, …"),
    ("run tunnel.hypotheses={a:1}", "should be a whole number"),
    ("run tunnel.hypotheses=nan", "tunnel.hypotheses=nan: should be a whole number; valid: 2, 4, 8, …"),
    ("run tunnel=permutation tunnel.hypotheses=inf", "should be a whole number; valid: 2, 6, 24, …"),
    ("run evaluate.tolerance=inf", "evaluate.tolerance=inf: should be a finite number"),
    ("run evaluate.examples=1000000000000", "should be less than 2147483648"),
    ("run seed=true", "seed=true: should be a number"),
    ("run tunnel.noise=false", "tunnel.noise=false: should be a number"),
    ("run runs=", "runs=: should be a folder"),
    ("run -m runs=a,b", "runs: is one for the whole run, and cannot be swept"),
    ("run -m force=true,false", "force: is one for the whole run"),
    ("run -m question=a,b", "question: is one for the whole run"),
    ("run -m +sweep=smoke,noise", "+sweep=smoke,noise: one at a time"),
    ("run -m hydra/launcher=basic seed=1,-2", "seed=-2: should be greater than or equal to 0"),
    ("run model.width=100000000", "model.width=100000000: needs at least 480 PB of memory, and there is "),
    ("run model.layers=10000000", "model.layers=10000000 model.width=64: needs at least "),
    ("run train.horizon=1e8", "train.horizon=100000000 model.width=64: needs at least 819 GB of memory"),
    ("run tunnel=5", "tunnel=5: a group takes a name, not 5"),
    ("run tunnel=null", "tunnel=null: a group takes a name"),
    ("run hydra/launcher=nosuch", "hydra/launcher=nosuch: no such name; valid: basic, "),
    ("run -m position=rope,alibi position.scaling=yarn", "scaling: no such name; valid: none (with position=alibi)"),
    ("run -m position=rope,xpos position.scaling=yarn", "valid: scale (with position=xpos)"),
    ("run runs=läufe", """such a value needs quotes: 'runs="läufe"'"""),
    ("run tunnel.noise=${nothing}", "Interpolation key 'nothing' not found"),
    ("run seed=1 extra", "extra: should be KEY=VALUE"),
    ("run =3", "=3: should be KEY=VALUE"),
    ("run -c job -m seed=1", "Only one of"),
    ("table nowhere --by=", "--by=: should be one or more names"),
    ("list --config-dir=nowhere", "--config-dir=nowhere: no such folder"),
    ("run bayesian_attention=default", "bayesian_attention: is added to the configuration: +bayesian_attention=NAME"),
    ("run +bayesian_attention=nosuch", "bayesian_attention=nosuch: no such name; valid: default"),
    ("run bayesian_attention.prior_params.scale=1e400", "bayesian_attention.prior_params.scale=inf: should be a"),
    ("run bayesian_attention.prior_params=[1]", "override bayesian_attention.prior_params=[1] Cannot merge"),
    ("run ++bayesian_attention=3", "force-add of config groups is not supported: '++bayesian_attention=3'"),
    ("run ~bayesian_attention.prior_type.x", "bayesian_attention.prior_type.x"),
    ("run -m +bayesian_attention=default tunnel=recall,die position=rope", "position=rope: bayesian_attention.prior_t"),
    ("export +bayesian_attention=default position=rope to=x", "position=rope: bayesian_attention.prior_type="),
    ("export tunnel=nosuch to=x", "tunnel=nosuch: no such name; valid: "),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), CASES, ids=[words[:40] for words, _ in CASES])
def test_nonsense_is_one_line(tmp_path, words, said):
    code, out, err = commanded.windtunnel(tmp_path, *words.split())
    assert (code, out) == (2, "") and said in err
    assert err.startswith("windtunnel: ") and err.count("\n") == 1 and len(err) < 800
    assert not list(tmp_path.iterdir()), "nothing is left behind"


BROKEN = {
    "malformed": (b"name: recall\n  noise: [", "yaml"),
    "tabs": (b"name: recall\n\tnoise: 0.1\n", "yaml"),
    "tag": (b"name: !!python/object/apply:os.system ['touch ran']\n", "yaml"),
    "latin": ("# läuft\nname: recall\n".encode("latin-1"), "yaml"),
    "list": (b"- 1\n", "yaml"),
    "nothing": (b"", "yaml"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_configuration_of_the_users_own_that_cannot_be_read(tmp_path, kind):
    folder = tmp_path / "my" / "tunnel"
    folder.mkdir(parents=True)
    (folder / "odd.yaml").write_bytes(BROKEN[kind][0])
    code, out, err = commanded.windtunnel(tmp_path, "run", "--config-dir", "my", "tunnel=odd")
    assert (code, out, err.count("\n")) == (2, "", 1) and err.startswith("windtunnel: "), err
    code, out, err = commanded.windtunnel(tmp_path, "list", "--config-dir", "my")
    assert (code, err.count("\n")) == ((2, 1) if kind == "latin" else (0, 0)), err
    assert kind != "latin" or "odd.yaml: is not UTF-8 text" in err
    assert [path.name for path in tmp_path.iterdir()] == ["my"]


def test_a_launcher_inside_a_sweep_file_is_not_ignored(tmp_path):
    (tmp_path / "my/sweep").mkdir(parents=True)
    sweep = "# @package _global_\ndefaults:\n  - override /hydra/launcher: basic\n"
    (tmp_path / "my/sweep/mine.yaml").write_text(sweep)
    code, _, err = commanded.windtunnel(tmp_path, "run", "--config-dir", "my", "+sweep=mine", "train.steps=0")
    assert (
        code == 2
        and "mine.yaml: override /hydra/launcher: basic: a launcher is chosen on" in err
        and err.count("\n") == 1
    )


PLUGINS = {
    "exits": ("import sys\nsys.exit(3)\n", "cannot be imported (SystemExit: 3)"),
    "nameless": (
        "from windtunnel.spec import spec\nfrom windtunnel.tunnels import Tunnel\n"
        "@spec\nclass Mine(Tunnel):\n    noise: float = 0.1\n",
        "Mine: it has no name; give it one of its own",
    ),
    "any_name": (
        "from windtunnel.spec import spec\nfrom windtunnel.tunnels import Tunnel\n"
        "@spec\nclass Mine(Tunnel):\n    name: str = 'mine'\n",
        "Mine: it has no name; give it one of its own",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PLUGINS)
def test_a_plug_in_that_is_none(tmp_path, kind):
    (tmp_path / f"{kind}.py").write_text(PLUGINS[kind][0])
    code, out, err = commanded.windtunnel(tmp_path, "run", f"plugins=[{kind}.py]")
    assert (code, out, err.count("\n")) == (2, "", 1) and PLUGINS[kind][1] in err, err


def test_what_ended_goes_from_process_to_process_as_text(tmp_path, monkeypatch):
    """Whoever can write into the scratch folder gets no code run by it."""
    from windtunnel import cli
    from windtunnel.errors import BadInput, CannotWrite, StudyFailed

    monkeypatch.setenv("WINDTUNNEL_SCRATCH", str(tmp_path))
    for error in (StudyFailed(), CannotWrite(tmp_path, "full"), BadInput("seed=x")):
        monkeypatch.setattr(
            "windtunnel.sweep.launcher.single", lambda config, error=error: (_ for _ in ()).throw(error)
        )
        monkeypatch.setattr(cli, "ended", lambda: [])
        cli.task(None)
        monkeypatch.undo()
        monkeypatch.setenv("WINDTUNNEL_SCRATCH", str(tmp_path))
    assert [type(error) for error in cli.ended()] == [BadInput, CannotWrite, StudyFailed]
    assert str(cli.ended()[1]) == str(CannotWrite(tmp_path, "full"))
    assert all(json.loads(path.read_text()) for path in tmp_path.iterdir())


SURROUNDINGS = [
    ({"JAX_PLATFORMS": "cuda"}, "probe x", 2, "JAX_PLATFORMS=cuda: there is no such device; here is cpu"),
    ({"JAX_ENABLE_X64": "1"}, "probe x", 2, "JAX_ENABLE_X64: records are of 32 bits"),
    ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "list", 0, ""),
    ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "run tunnel=läufe", 2, "tunnel=l"),
]


@pytest.mark.parametrize(("names", "words", "code", "said"), SURROUNDINGS)
def test_hostile_surroundings(tmp_path, names, words, code, said):
    done = subprocess.run(command(*words.split()), cwd=tmp_path, env={**os.environ, **names}, capture_output=True)
    assert done.returncode == code and said.encode() in done.stderr
    assert done.stderr.count(b"\n") == (code > 0)
    assert "LC_ALL" not in names or (done.stdout + done.stderr).isascii()


FULL = "windtunnel: standard output: No space left on device\n"


@pytest.mark.parametrize(("where", "code", "said"), [("| true", 0, ""), ("> /dev/full", 1, FULL), (">&-", 0, "")])
def test_output_that_nobody_takes(tmp_path, where, code, said):
    line = f"{sys.executable} -m windtunnel.cli list {where}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)

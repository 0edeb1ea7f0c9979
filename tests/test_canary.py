"""A compiler that computes wrong is refused; a good one is asked once."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from windtunnel import canary, cli
from windtunnel.errors import BadInput
from windtunnel.sweep.packs import use_all_cores

ROOT = Path(__file__).parents[1]


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """A cache folder of its own, and how often the compiler was asked: it answers with numpy, times `calls.factor`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    class Calls(list):
        factor = 1.0

    asked = Calls()

    def computed(pairs):
        asked.append(len(pairs))
        return [asked.factor * np.einsum("btd,hd->bth", x, h) for h, x in pairs]

    monkeypatch.setattr(canary, "compiled", computed)
    return asked


def files(tmp_path):
    return sorted(path.name for path in tmp_path.rglob("compiler-*"))


def test_this_compiler_is_right(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    canary.check_compiler()
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("factor", [1.001, np.nan])
def test_a_wrong_compiler_is_refused_in_one_line_each_time(calls, tmp_path, factor):
    calls.factor = factor
    for _ in range(2):
        with pytest.raises(BadInput) as refusal:
            canary.check_compiler()
    line = str(refusal.value)
    assert "\n" not in line and line.startswith("jaxlib ") and canary.RIGHT in line and "wrong results" in line
    assert len(calls) == 2 and files(tmp_path) == []


@pytest.mark.parametrize("arguments", [["export", "to=x"], ["judge", "x", "y", "name=z"], ["probe", "x"], ["verify"]])
def test_commands_that_compute_ask_first_and_end_with_2(calls, monkeypatch, capsys, arguments):
    calls.factor = 2.0
    monkeypatch.setattr(sys, "argv", ["windtunnel", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_what_trains_and_what_notebooks_call_ask_first(calls, tmp_path):
    import windtunnel

    calls.factor = 2.0
    for call in (use_all_cores, lambda: windtunnel.load(tmp_path), lambda: windtunnel.problem("tunnel=recall")):
        with pytest.raises(BadInput, match="jaxlib"):
            call()


def test_a_good_answer_holds_for_its_versions_processor_and_flags(calls, monkeypatch, tmp_path):
    for _ in range(3):
        canary.check_compiler()
    assert len(calls) == 1
    changes = [
        lambda: monkeypatch.setattr(canary.jaxlib, "__version__", "0.99"),
        lambda: monkeypatch.setattr(canary.jax, "__version__", "0.99"),
        lambda: monkeypatch.setattr(canary, "processor", lambda: ["another"]),
        lambda: monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX2"),
    ]
    for number, change in enumerate(changes, 2):
        change()
        canary.check_compiler()
        canary.check_compiler()
        assert len(calls) == number == len(files(tmp_path))


def test_a_cache_that_says_something_else_is_not_believed(calls, tmp_path):
    canary.check_compiler()
    (path,) = tmp_path.rglob("compiler-*")
    path.write_text("{}")
    canary.check_compiler()
    assert len(calls) == 2


def test_a_cache_that_cannot_be_is_not_used(calls, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    canary.check_compiler()
    canary.check_compiler()
    assert len(calls) == 2


def test_the_versions_that_it_names_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    sign = "<" if sys.version_info < (3, 12) else ">="
    (line,) = [one for one in project["dependencies"] if re.match(rf"jax[^l].*python_version {sign} ", one)]
    assert line.split(";")[0].strip() == f"jax{canary.RIGHT}"


def test_what_needs_no_jax_does_not_import_it(tmp_path):
    code = (
        "import contextlib, sys\nfrom windtunnel import cli\n"
        "for words in (['list'], ['--help'], ['status', sys.argv[1]], ['table', sys.argv[1]]):\n"
        "    with contextlib.suppress(SystemExit, ValueError):\n        cli.dispatch(words)\n"
        "assert not {'jax', 'windtunnel.canary'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True, cwd=ROOT)

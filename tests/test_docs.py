"""Every command in README and docs is composed and validated; those that do not say that they are long are executed."""

import re
import shlex
import subprocess
import sys

import pytest
import yaml

from tests.composed import TINY
from tests.documented import HERE, PAGES, blocks, commands, files, write
from tests.foreign import forgotten
from windtunnel import cli

EVERY = [command for page in PAGES for command in commands(page)]
# What the commands of the README that read records find: the named sweep, made small.
SMALL = [*TINY[:-2], "position=uniform,alibi", "seed=0", "evaluate.examples=4", "evaluate.reach=2"]


def test_there_is_something_to_try():
    assert len(EVERY) > 15 and {command.text.split()[0] for command in EVERY} <= {
        "windtunnel", "make", "pip", "python", "cd", "git", "sbatch", "squeue", "srun", "gcloud", "source",
        "scripts/slurm.sh", "JAX_COORDINATOR_ADDRESS=localhost:7777"}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("command", EVERY, ids=lambda command: f"{command.page}: {command.text}")
def test_it_is_a_command(command, tmp_path, monkeypatch):
    """`windtunnel run …` goes through Hydra and the door, point by point, and ends before anything trains."""
    words = at_home(shlex.split(command.text))
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (HERE / "Makefile").read_text(), re.M)
        assert set(words[1:]) <= set(targets)
    elif words[0] == "python":
        assert (HERE / words[1]).exists() or words[1] in files(HERE / "docs" / command.page)
    elif words[:2] == ["windtunnel", "run"]:
        write(HERE / "docs" / command.page, tmp_path) if command.page != "README.md" else None
        monkeypatch.chdir(tmp_path)
        ran = []
        monkeypatch.setattr("windtunnel.sweep.run.run", lambda points, *rest: ran.extend(points) or True)
        monkeypatch.setattr(sys, "argv", [])
        with forgotten():
            cli.run([*words[2:], *first_point(words)])
        assert ran
    elif words[0] == "windtunnel":
        assert f" {words[1]} " in help_text()


def at_home(words):
    """Without what needs a cluster: its launcher and its processes are tested in tests/sweep/test_cluster.py."""
    clusters = ("hydra/launcher=", "hydra.launcher.", "distributed=")
    site = {i for i, word in enumerate(words) if "-cd" in (word, words[i - 1])}
    return [word for i, word in enumerate(words) if i not in site and not word.startswith(clusters)]


def first_point(words):
    """Overrides that leave one point of a named sweep: composing all of them takes a while and shows no more."""
    names = [word.partition("=")[2] for word in words if word.startswith("+sweep=")]
    swept = (
        yaml.safe_load((HERE / f"conf/sweep/{names[0]}.yaml").read_text())["hydra"]["sweeper"]["params"]
        if names
        else {}
    )
    given = {word.partition("=")[0] for word in words}
    return [f"{key}={str(values).split(',')[0]}" for key, values in swept.items() if key not in given]


def help_text():
    return subprocess.run([sys.executable, "-m", "windtunnel.cli", "--help"], capture_output=True, text=True).stdout


# All pages but that on clusters, whose commands need one: tests/sweep/test_cluster.py does them on its own.
EXECUTED = [page for page in PAGES if page.name != "clusters.md" and any(c.page == page.name for c in EVERY)]


@pytest.mark.slow
@pytest.mark.parametrize("page", EXECUTED, ids=lambda page: page.name)
def test_what_is_not_long_does_what_it_says(page, tmp_path):
    """In order, in one folder, with the files that the page shows; then its Python."""
    own = tuple(["windtunnel", *(f"python {path}" for path in files(page))])
    short = [command for command in commands(page) if command.text.startswith(own) and not command.long]
    code = blocks(page, "python")
    write(page, tmp_path)
    read = any("runs/extrapolation" in command.text for command in short)
    prepared = ["windtunnel run " + shlex.join(["+sweep=extrapolation", *SMALL])] if read else []
    for text in [*prepared, *(command.text for command in short)]:
        first, *rest = shlex.split(text)
        words = [sys.executable, *(["-m", "windtunnel.cli"] if first == "windtunnel" else []), *rest]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}{done.stderr}"
    for block in code:
        if "windtunnel.load(" in block or "windtunnel.problem(" in block:
            done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


def test_links_between_pages_lead_somewhere():
    for page in [*PAGES, HERE / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"

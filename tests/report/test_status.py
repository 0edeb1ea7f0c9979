"""Status: what is done, running, failed, cut off and waiting, and why, from records and claims alone."""

import subprocess
import sys
import time
from unittest import mock

import pytest

from tests.report.made import write_result, write_study
from windtunnel import records
from windtunnel.errors import BadInput
from windtunnel.records.claims import Claims
from windtunnel.report import status
from windtunnel.spec import digest

NOTE = {"what": "training", "step": 300, "steps": 1000, "saved": 250, "steady_seconds": 10.0, "kl_bits": [0.02, None],
        "compilations": 5, "compile_seconds": 7.5, "host": "here", "process": 4711}  # fmt: skip


@pytest.fixture
def sweep(tmp_path):
    """One study of each kind, and two that train together."""
    root = tmp_path / "runs" / "trial"
    names = ["done", "run0", "run1", "bad", "cut", "early", "trained", "waits"]
    points = [{"study_id": name, "overrides": {"position": name, "seed": "0"}} for name in names]
    records.write_json(root / "sweep.json", {"points": points})
    for name in names[:-1]:
        write_study(root / name)
    write_result(root / "done")
    records.write(root / "bad" / "error.txt", "the loss was not finite at step 12\nknobs: {}\n")
    (root / "trained" / "checkpoint").mkdir()
    for studies, note in ((["run0", "run1"], NOTE), (["cut"], NOTE), (["early"], {**NOTE, "saved": 0})):
        records.write_json(root / "packs" / f"{digest(studies)}.json", {"studies": studies, **note})
    claims = Claims(root)
    claims.take(["run0", "run1"])
    yield root
    claims.close()


def test_every_study_stands_somewhere_and_says_why(sweep):
    running = "step 300 of 1000, KL 0.020 bits, saved at 250 (here, process 4711)"
    assert [(standing.study_id, standing.state, standing.why) for standing in status.standings(sweep)] == [
        ("done", "done", ""),
        ("run0", "running", running),
        ("run1", "running", running),
        ("bad", "failed", "the loss was not finite at step 12"),
        ("cut", "cut off", "goes on from step 250 of 1000"),
        ("early", "cut off", "before its first checkpoint: starts again"),
        ("trained", "cut off", "trained, not yet judged"),
        ("waits", "waiting", "not begun"),
    ]
    assert status.counts(status.standings(sweep)) == "8 studies: 1 done, 2 running, 1 failed, 3 cut off, 1 waiting"


def test_of_one_study_and_of_all_runs(sweep, capsys):
    (standing,) = status.standings(sweep / "run0")
    assert standing.state == "running"
    write_study(sweep.parent / "single" / "alone")
    status.show(sweep.parent)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["trial", "1", "2", "1", "3", "1"] in lines and ["single", "1"] in lines
    with pytest.raises(BadInput, match="no records here"):
        status.show(sweep.parent / "nowhere")


def test_what_it_cost_is_summed_over_the_packs(sweep):
    """4 studies × 300 steps in 30 s."""
    assert status.effort(sweep) == "3 packs, 15 compilations in 22.5 s, 30 s of steps: 40 model-steps/s"
    assert status.effort(sweep.parent) is None


def test_many_values_are_cut_short():
    waiting = [status.Standing(f"s{n}", "waiting", "", {"seed": str(n), "prior": "flat"}) for n in range(20)]
    assert status.which(waiting) == "seed=0,1,2,3,4,5,6,7,… (20) prior=flat"
    assert status.which([standing._replace(overrides={}) for standing in waiting[:2]]) == "s0, s1"


@pytest.mark.parametrize("columns", ["80", "160"])
def test_it_is_readable_in_a_terminal_and_in_a_pipe(sweep, columns):
    """In a terminal of so many columns no line is longer and nothing is lost; a pipe has no edge."""
    code = (
        "import sys; sys.stdout.isatty = lambda: True\n"
        "from windtunnel.cli import main; sys.argv = ['windtunnel', *sys.argv[1:]]; main()\n"
        "assert not {'jax', 'hydra', 'flax', 'scipy', 'matplotlib'} & set(sys.modules), sys.modules.keys()"
    )
    environment = {"COLUMNS": columns, "PATH": "", "TERM": "dumb"}
    command = [sys.executable, "-c", code, "status", str(sweep)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert all(len(line) <= int(columns) for line in out.splitlines()[1:]), "but for the path"
    for word in ("8 studies: 1 done", "position=run0,run1", "4711", "40 model-steps/s"):
        assert word in " ".join(out.split())
    command = [sys.executable, "-m", "windtunnel.cli", "status", str(sweep)]
    piped = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "step 300 of 1000, KL 0.020 bits, saved at 250 (here, process 4711)" in piped


def test_a_thousand_studies_are_looked_through_in_a_moment(tmp_path):
    points = [{"study_id": f"s{n}", "overrides": {"seed": str(n)}} for n in range(1000)]
    records.write_json(tmp_path / "sweep.json", {"points": points})
    with mock.patch("os.fsync"):
        for n in range(900):
            write_study(tmp_path / f"s{n}")
            write_result(tmp_path / f"s{n}")
    began = time.process_time()
    everything = status.standings(tmp_path)
    assert time.process_time() - began < 3, "less than half a second, where nothing is quadratic"
    assert status.counts(everything) == "1000 studies: 900 done, 100 waiting"

"""What a sweep survives, for real: signals, another process, a full disk."""

import csv
import signal
import subprocess
import sys
import time

import pytest

from tests.composed import TINY
from tests.sweep.commands import command, same
from windtunnel import records
from windtunnel.report.status import standings


@pytest.mark.slow
def test_killed_in_the_middle_it_ends_where_it_would_have_ended(tmp_path):
    """SIGKILL and SIGTERM, for real, and the same command again: bit for bit the same parameters and verdict.

    SIGTERM leaves five seconds to save, which may be too few for a machine that is busy: here it leaves an hour.
    """
    patient = "from windtunnel.sweep import stop; stop.GRACE = 3600.0; from windtunnel.cli import main; main()"

    def sweep(name, every=0):
        overrides = [*TINY, "train.steps=600", "train.batch=2", "evaluate.reach=1", f"checkpoint_seconds={every}"]
        typed = ["run", "-m", *overrides, "tunnel.noise=0.1,0.2", f"runs={tmp_path / name}"]
        return [sys.executable, "-c", patient, *typed]

    def wait_for(process, met):
        deadline = time.monotonic() + 600
        while not met():
            assert process.poll() is None and time.monotonic() < deadline, "it was not cut off while it trained"
            time.sleep(0.01)

    def note():
        return next((records.read_json(path) for path in (tmp_path / "cut").glob("*/packs/*.json")), {"saved": 0})

    straight = subprocess.Popen(sweep("straight"), stdout=subprocess.DEVNULL)
    cut = subprocess.Popen(sweep("cut"), stdout=subprocess.DEVNULL)
    wait_for(cut, lambda: note()["saved"])
    cut.send_signal(signal.SIGKILL)
    cut.wait()
    killed = note()["saved"]

    cut = subprocess.Popen(sweep("cut", every=1000), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(cut, lambda: note()["what"] == "training" and note()["process"] == cut.pid)
    cut.send_signal(signal.SIGTERM)
    out, err = cut.communicate(timeout=600)
    assert cut.returncode == 128 + signal.SIGTERM
    assert err.endswith("windtunnel: interrupted (SIGTERM); the same command goes on from the last checkpoint\n")
    assert f"goes on from step {killed}\n" in out
    assert note()["saved"] > killed, "only the signal can have saved it"
    assert not list((tmp_path / "cut").glob("*/*/result.json"))
    (root,) = (tmp_path / "cut").iterdir()
    assert [standing.why for standing in standings(root)] == [f"goes on from step {note()['saved']} of 600"] * 2

    out = subprocess.run(sweep("cut"), capture_output=True, text=True, check=True).stdout
    assert "goes on from step" in out
    assert straight.wait(timeout=600) == 0

    same(tmp_path / "straight", tmp_path / "cut")


@pytest.mark.slow
def test_two_processes_share_a_sweep(tmp_path):
    """Whoever trains what, each ends with the whole answer, and no study is trained twice."""
    sweep = command("run", "-m", *TINY, "train.steps=200", "position=uniform,alibi,rope", f"runs={tmp_path}")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(sweep, **pipes) for _ in range(2)]
    answers = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    assert answers[0][0].splitlines()[-1] == answers[1][0].splitlines()[-1], "the same answer"
    (root,) = tmp_path.iterdir()
    with open(root / "results.csv") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["done"] * 3
    notes = records.notes(root)
    assert [note["compilations"] + note["found_compiled"] > 0 and note["what"] for note in notes] == ["done"] * 3
    assert {note["process"] for note in notes} <= {process.pid for process in processes}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_nothing_half_written_is_taken_for_done(small_disk):
    study = command("run", *TINY, "model.width=64", "model.hidden=256", f"runs={small_disk}")
    done = subprocess.run(study, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("windtunnel: ") and done.stderr.count("\n") == 1
    assert "cannot be written (No space left on device)" in done.stderr
    root = small_disk / "single"
    assert [standing.state for standing in standings(root)] == ["cut off"]
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert subprocess.run(study, capture_output=True).returncode == 0
    assert [standing.state for standing in standings(root)] == ["done"]

"""What a run survives, for real: a series of kills, also while tables are written; a folder that turns read-only;
little memory; another number of cores.
"""

import csv
import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest

from tests.composed import TINY
from tests.sweep.commands import command, same
from windtunnel import records
from windtunnel.report.status import standings

SWEEP = [*TINY, "train.steps=600", "train.batch=2", "evaluate.reach=1", "checkpoint_seconds=0", "tunnel.noise=0.1,0.2"]


def ended(typed, **options):
    return subprocess.run(typed, capture_output=True, text=True, **options)


@pytest.mark.slow
def test_a_series_of_kills_changes_no_bit(tmp_path):
    """Eleven SIGKILLs at random moments, from before the first step to while verdicts are written."""
    chance = random.Random(0)
    assert ended(command("run", "-m", *SWEEP, f"runs={tmp_path / 'straight'}")).returncode == 0
    typed = command("run", "-m", *SWEEP, f"runs={tmp_path / 'cut'}")
    began = time.monotonic()
    assert ended(typed).returncode == 0
    whole = time.monotonic() - began
    subprocess.run(["rm", "-r", tmp_path / "cut"], check=True)
    for _ in range(11):
        process = subprocess.Popen(typed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.1, 0.9) * whole)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for root in (tmp_path / "cut").glob("*/sweep.json"):
            assert not [standing for standing in standings(root.parent) if standing.state == "damaged"]
    assert ended(typed).returncode == 0
    same(tmp_path / "straight", tmp_path / "cut")


WRITES = """
import sys
from pathlib import Path
from windtunnel import records
print("begun", flush=True)
while True:
    records.write_results(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_killed_while_results_are_written_they_are_whole(tmp_path):
    from tests.report.made import kl, sweep

    chance = random.Random(1)
    root = sweep(tmp_path / "a", {"bam": kl(*[0.1] * 20), "rope": kl(*[0.2] * 20)})
    for _ in range(20):
        process = subprocess.Popen([sys.executable, "-c", WRITES, root], stdout=subprocess.PIPE)
        assert process.stdout and process.stdout.readline() == b"begun\n"
        time.sleep(chance.uniform(0.0, 0.3))
        process.kill()
        process.wait()
        process.stdout.close()
        if (root / "results.csv").exists():
            with open(root / "results.csv") as file:
                assert [row["status"] for row in csv.DictReader(file)] == ["done"] * 40
    assert (root / "results.csv").exists()


READ_ONLY = """
import errno, os, sys
from windtunnel.cli import command
runs, mark = sys.argv[1:3]
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}
def refuse(event, given):  # as a file system does that was mounted again, read-only
    if event in CHANGES or (event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)):
        if str(given[0]).startswith(runs) and os.path.exists(mark):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), given[0])
sys.addaudithook(refuse)
sys.argv = ["windtunnel", *sys.argv[3:]]
command()
"""


@pytest.mark.slow
def test_a_folder_that_turns_read_only_is_one_line_and_the_run_goes_on_later(tmp_path):
    """In the middle of training, as when a server of files is taken down."""
    runs, mark = tmp_path / "runs", tmp_path / "mark"
    typed = ["run", *TINY, "train.steps=20000", "evaluate.reach=1", "checkpoint_seconds=0", f"runs={runs}"]
    process = subprocess.Popen([sys.executable, "-c", READ_ONLY, runs, mark, *typed], stderr=subprocess.PIPE, text=True)
    while not any(note["saved"] for note in records.notes(runs / "single")):
        assert process.poll() is None
        time.sleep(0.05)
    mark.touch()
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1 and err.count("\n") == 1, err
    assert err.startswith("windtunnel: ") and "cannot be written (Read-only file system)" in err, err
    (standing,) = standings(runs / "single")
    assert standing.state == "cut off" and "goes on from step" in standing.why


@pytest.mark.slow
def test_with_too_little_memory_a_study_is_refused_or_fails_in_a_line(tmp_path):
    """By a limit on the process's addresses, which the kernel's own figures know nothing of."""
    limit = 6 * 2**30

    def less():
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    large = ["model.width=2048", "model.hidden=8192", "model.layers=4", "train.batch=64", "train.steps=2"]
    done = ended(command("run", *TINY[:2], *large, f"runs={tmp_path}"), preexec_fn=less)
    # LLVM itself aborts the process where it finds no place for the code it generates: nothing in Python hears of that.
    assert done.returncode in (1, 2, -6), done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert "memory" in done.stderr + done.stdout


@pytest.mark.slow
def test_on_another_number_of_cores_it_says_that_bits_may_differ(tmp_path):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("has one core")
    typed = command("run", *TINY, "train.steps=5000", "evaluate.reach=1", "checkpoint_seconds=0", f"runs={tmp_path}")
    process = subprocess.Popen(typed, stdout=subprocess.DEVNULL)
    while not any(note["saved"] for note in records.notes(tmp_path / "single")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.wait()
    done = ended(typed, env={**os.environ, "SLURM_CPUS_PER_TASK": "1"})
    assert done.returncode == 0, done.stderr
    assert ", here on 1 cpu device and before on 2 cpu devices: the last bits may differ" in done.stdout

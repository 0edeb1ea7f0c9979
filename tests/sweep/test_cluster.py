"""Packs on a cluster: a real SLURM of one node, tasks that are killed for real."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import commanded
from tests.composed import TINY, tiny
from tests.report.made import write_result, write_study
from tests.sweep.commands import command, same, until, windtunnel
from windtunnel import records
from windtunnel.errors import BadInput
from windtunnel.records import jobs
from windtunnel.report import status
from windtunnel.spec import digest
from windtunnel.sweep import cluster
from windtunnel.sweep.point import Point
from windtunnel.sweep.saved import Saved

SCRIPT = Path(__file__).parents[2] / "scripts/slurm.sh"
LAUNCHER = ["hydra/launcher=packed_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.studies_per_task=2"]
STEPS = 3000


# What needs no cluster


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "there is no sbatch on the PATH; submit from a SLURM login node"),
        ("hydra.launcher.time=0", "hydra.launcher.time=0: should be greater than or equal to 1"),
        ("hydra.launcher.partitoin=gpu", "hydra.launcher.partitoin: no such name; did you mean partition?"),
    ],
)
def test_what_cannot_be_submitted_is_said_in_one_line_and_leaves_nothing(tmp_path, monkeypatch, options, message):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, err = commanded.windtunnel(tmp_path, "run", "+sweep=smoke", LAUNCHER[0], *options.split())
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_submitit_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(BadInput, match=r"submitit is not installed \(pip install 'windtunnel\[slurm\]'\)"):
        cluster.ready()


def test_packs_are_cut_to_size_but_one_that_was_cut_off_stays_whole(tmp_path):
    points = [Point(tiny(f"seed={seed}")) for seed in range(7)] + [Point(tiny("position=alibi"))]
    ids = [point.id for point in points]
    assert [len(pack) for pack in cluster.tasks(tmp_path, points, 3)] == [3, 2, 2, 1]
    assert [len(pack) for pack in cluster.tasks(tmp_path, points, None)] == [7, 1]
    Saved(tmp_path, ids[1:3]).begin(4)
    assert [len(pack) for pack in cluster.tasks(tmp_path, points, 3)] == [3, 2, 2, 1], "nothing was saved"
    (tmp_path / "packs" / digest(ids[1:3])).mkdir()
    (tmp_path / "packs" / digest(ids[1:3]) / "_CHECKPOINT_METADATA").touch()
    packs = [[point.id for point in pack] for pack in cluster.tasks(tmp_path, points, 3)]
    assert packs == [ids[1:3], [ids[0], *ids[3:5]], ids[5:7], ids[7:]]
    assert cluster.tasks(tmp_path, points[:2], 3) == [points[:2]], "of which one is done: no checkpoint of its own"


def test_status_says_what_the_queue_says(tmp_path, monkeypatch):
    """`squeue` as a script: what waits is queued, what it does not list has ended, and without it logs speak."""
    root, names = tmp_path / "sweep", ("waits", "starts", "ended", "done")
    points = [{"study_id": name, "overrides": {}} for name in names]
    records.write_json(root / "sweep.json", {"points": points, "packs": [], "fixed": {}})
    write_study(root / "done")
    write_result(root / "done")
    records.write(root / "slurm/7_2_0_log.out", "")
    jobs.add(root, [jobs.Job("6", "slurm/6_0_log.out", ["waits", "ended"])])
    jobs.add(root, [jobs.Job(f"7_{n}", f"slurm/7_{n}_0_log.out", [name]) for n, name in enumerate(names)])
    squeue = tmp_path / "bin/squeue"
    squeue.parent.mkdir()
    squeue.write_text("#!/bin/sh\necho 7_0 PENDING; echo 7_1 RUNNING; echo 8 RUNNING\n")
    squeue.chmod(0o755)

    def states():
        return {standing.study_id: (standing.state, standing.why) for standing in status.standings(root)}

    monkeypatch.setenv("PATH", str(squeue.parent))
    assert states() == {
        "waits": ("queued", "job 7_0"),
        "starts": ("running", "job 7_1 is starting"),
        "ended": ("waiting", f"not begun; job 7_2 has ended, see {root}/slurm/7_2_0_log.out"),
        "done": ("done", ""),
    }
    monkeypatch.setenv("PATH", str(tmp_path))
    assert states()["starts"] == ("queued", "job 7_1"), "nobody can say, and it has no log yet"
    assert states()["ended"] == ("waiting", f"not begun; job 7_2 began, see {root}/slurm/7_2_0_log.out")


# A real SLURM


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment in which sbatch and the others are found."""
    folder = tmp_path_factory.mktemp("slurm")
    up = subprocess.run([SCRIPT, "up", folder], capture_output=True, text=True)
    if up.returncode == 3:
        pytest.skip(up.stderr.strip())
    assert up.returncode == 0, up.stderr
    text = subprocess.check_output(["bash", "-c", f"source {folder}/env.sh && env -0"], text=True)
    environment = dict(line.split("=", 1) for line in text.split("\0") if "=" in line)
    yield {key: environment[key] for key in ("SLURM_CONF", "LD_LIBRARY_PATH", "PATH")}
    down = subprocess.run([SCRIPT, "down", folder], capture_output=True, text=True, check=True)
    assert "stopped slurmd" in down.stdout and "stopped slurmctld" in down.stdout
    assert not [exe for exe in map(_exe, Path("/proc").glob("[0-9]*")) if exe.startswith(f"{folder}/")]


def _exe(process: Path) -> str:
    try:
        return os.readlink(process / "exe")
    except OSError:
        return ""


@pytest.mark.slow
def test_tasks_that_are_requeued_killed_and_out_of_time_end_where_they_would_have_ended(tmp_path, slurm):
    """Three packs: SLURM requeues one, one's process is killed, one is told that its time is up. All resume."""
    overrides = ["run", "-m", *TINY, f"train.steps={STEPS}", "train.batch=2", "evaluate.reach=1", "seed=range(6)",
                 "checkpoint_seconds=0", f"compilation_cache={tmp_path / 'compiled'}", *LAUNCHER]  # fmt: skip
    cut, straight = ([*overrides, f"runs={tmp_path / name}"] for name in ("cut", "straight"))
    out = windtunnel(*cut, **slurm)
    assert out.startswith("6 studies, 0 of them done; 6 submitted in 3 packs: job ")
    (root,) = (tmp_path / "cut").iterdir()
    sent = jobs.submitted(root)
    assert [job.studies for job in sent] == [[p["study_id"] for p in _points(root)[n : n + 2]] for n in (0, 2, 4)]
    out = windtunnel(*cut, **slurm)
    assert out.splitlines() == ["6 studies, 0 of them done; 6 queued or running", f"windtunnel status {root}"]

    def slurms(*arguments):
        subprocess.run(arguments, check=True, env={**os.environ, **slurm})

    def blow(number, strike):
        """Once the pack has a checkpoint, and before it is through."""
        job, pack = sent[number], Saved(root, sent[number].studies)
        until(lambda: pack.exists and records.read_json(pack.path)["saved"], f"no checkpoint of {job.id}")
        assert records.read_json(pack.path)["saved"] < STEPS
        strike(job, records.read_json(pack.path))

    blow(0, lambda job, note: slurms("scontrol", "requeue", job.id))
    blow(1, lambda job, note: os.kill(note["process"], signal.SIGKILL))
    lines = set()  # in whatever order the two come
    wanted = {f"queued {sent[0].id}", f"ended {sent[1].id}"}
    until(lambda: lines.update(why_of(root, slurm)) or wanted <= lines, "status has not said what became of them")
    blow(2, lambda job, note: slurms("scancel", "--signal=USR2", job.id))
    out = windtunnel(*cut, "hydra.launcher.wait=true", **slurm)
    assert "2 submitted in 1 pack: job " in out and "results in" in out
    again = jobs.submitted(root)[-1]
    assert again.studies == sent[1].studies, "the pack that was killed, and no other"
    for job in (sent[0], again, sent[2]):
        assert "goes on from step" in (root / job.log).read_text()
    for job in (sent[0], sent[2]):
        assert (root / job.log).read_text().count("Starting with JobEnvironment") == 2, "the same job, twice"
    assert {standing.state for standing in status.standings(root)} == {"done"}

    out = windtunnel(*straight, "hydra.launcher.wait=true", **slurm)
    assert "6 submitted in 3 packs" in out
    same(tmp_path / "straight", tmp_path / "cut")
    assert "6 studies, 6 of them done" in windtunnel(*straight, **slurm), "and nothing is submitted again"


def why_of(root: Path, environment: dict[str, str]) -> set[str]:
    out = windtunnel("status", str(root), **environment)
    phrases = {"queued": r"queued .*job (\S+): goes on from step", "ended": r"job (\S+) has ended, see"}
    return {f"{what} {job}" for what, phrase in phrases.items() for job in re.findall(phrase, out)}


def _points(root: Path) -> list[dict]:
    return records.read_json(root / "sweep.json")["points"]


@pytest.mark.slow
def test_what_sbatch_refuses_is_said_in_one_line(tmp_path, slurm):
    overrides = ["run", "+sweep=smoke", LAUNCHER[0], f"runs={tmp_path}", "hydra.launcher.partition=nowhere"]
    done = subprocess.run(command(*overrides), capture_output=True, text=True, env={**os.environ, **slurm})
    assert done.returncode == 2 and not list(tmp_path.glob("*/slurm/*"))
    assert done.stderr == "windtunnel: sbatch refused: invalid partition specified: nowhere\n"


# Several processes for one pack

STUDY = [*TINY, "train.steps=40", "checkpoint_seconds=0"]


@pytest.mark.slow
def test_srun_trains_one_study_in_two_processes(tmp_path, slurm):
    """Its batch is split over them. The same bits as one process with two devices; one of the two prints and writes."""
    srun = ["srun", "--ntasks=2", "--cpus-per-task=1", "--output", str(tmp_path / "%t.log")]
    together = command("run", *STUDY, f"runs={tmp_path / 'two'}", "distributed=true")
    subprocess.run([*srun, *together], check=True, env={**os.environ, **slurm})
    windtunnel("run", *STUDY, f"runs={tmp_path / 'one'}", SLURM_CPUS_PER_TASK="2")
    same(tmp_path / "one", tmp_path / "two")
    leader, follower = ((tmp_path / f"{n}.log").read_text() for n in (0, 1))
    assert "records in" in leader and "records in" not in follower and "study" not in follower
    (study,) = (tmp_path / "two").glob("*/*/study.json")
    assert records.read_json(study)["device"]["count"] == 2


def test_the_script_says_how_it_is_used(tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    done = subprocess.run([SCRIPT], capture_output=True, text=True)
    assert done.returncode == 2 and "usage" in done.stderr

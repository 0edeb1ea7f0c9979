"""The cluster jobs of a sweep folder: which job has which pack, and whether it is queued or running. Needs no JAX.

`slurm/jobs.json` lists the submitted jobs, the newest last: a job's id, its log, the studies of its pack.
"""

import subprocess
from pathlib import Path
from typing import NamedTuple

from windtunnel import records
from windtunnel.records.shapes import JOBS

FOLDER = "slurm"
SECONDS = 2.0  # how long `status` waits for the controller's answer


class Job(NamedTuple):
    """A pack that was submitted."""

    id: str  # `12`, or `12_3` in an array
    log: str  # relative to the sweep folder
    studies: list[str]


def submitted(root: Path) -> list[Job]:
    path = root / FOLDER / "jobs.json"
    if not path.exists():
        return []
    jobs = records.read_json(path, JOBS)["jobs"]
    return [Job(job["id"], job["log"], job["studies"]) for job in jobs]


def add(root: Path, jobs: list[Job]) -> None:
    every = [job._asdict() for job in [*submitted(root), *jobs]]
    records.write_json(root / FOLDER / "jobs.json", {"jobs": every})


def latest(root: Path) -> dict[str, Job]:
    """{study_id: the job that it was last submitted in}."""
    return {name: job for job in submitted(root) for name in job.studies}


def queue(seconds: float = SECONDS) -> dict[str, str] | None:
    """{job id: `PENDING`, `RUNNING`, …} of this user's jobs that have not ended; None where squeue does not answer."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i %T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return dict(line.split() for line in done.stdout.splitlines()) if done.returncode == 0 else None

"""SLURM: every pack of a sweep becomes a task of one job array. A task runs its pack exactly as a local run would."""

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pydantic
from hydra.core.utils import JobReturn
from omegaconf import OmegaConf
from pydantic import Field

from windtunnel import records
from windtunnel.config import Settings
from windtunnel.errors import BadInput, Interrupted, no_such
from windtunnel.records import jobs
from windtunnel.sweep import launcher

NOTICE = 90  # seconds between SLURM's warning (SIGUSR2) and the end of a task's time: enough to save a checkpoint
PATIENCE = 60.0  # seconds for a busy controller to answer
POLL_SECONDS = 5.0  # between looks at the queue
STOP_SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGUSR2  # each asks a task to stop


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class Options:
    """What a task asks of the cluster: `conf/hydra/launcher/packed_slurm.yaml` says what each key means."""

    partition: str | None
    account: str | None
    constraint: str | None
    time: Annotated[int, Field(ge=1)]
    cpus_per_task: Annotated[int, Field(ge=1)]
    gpus_per_node: Annotated[int, Field(ge=0)] | None
    mem_gb: Annotated[float, Field(gt=0)] | None
    nodes: Annotated[int, Field(ge=1)]
    tasks_per_node: Annotated[int, Field(ge=1)]
    studies_per_task: Annotated[int, Field(ge=1)] | None
    array_parallelism: Annotated[int, Field(ge=1)]
    requeue: bool
    setup: list[str]
    additional: dict[str, str | int | bool]
    wait: bool


def launch(config: Any, loader: Any, job_overrides: Sequence[Sequence[str]]) -> list[JobReturn]:
    """Compose and validate every point, then submit the packs."""
    options = read(config.hydra.launcher)
    ready()
    return launcher.launch(config, loader, job_overrides, partial(submit, options))


def read(config: Any) -> Options:
    """The options, or `BadInput`."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    plain.pop("_target_", None)
    try:
        return Options(**plain)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key, value = ".".join(str(part) for part in first["loc"]), first["input"]
        if first["type"] == "unexpected_keyword_argument":
            raise BadInput(f"hydra.launcher.{key}: {no_such(key, list(Options.__annotations__))}") from None
        why = first["msg"].replace("Input should", "should")
        raise BadInput(f"hydra.launcher.{key}={value}: {why[0].lower()}{why[1:]}") from None


def ready() -> None:
    """Refuse where nothing can be submitted, before anything is written."""
    try:
        import submitit  # noqa: F401
    except ModuleNotFoundError:
        raise BadInput(
            "hydra/launcher=packed_slurm: submitit is not installed (pip install 'windtunnel[slurm]')"
        ) from None
    missing = [name for name in ("sbatch", "srun", "squeue", "scontrol") if shutil.which(name) is None]
    if missing:
        raise BadInput(
            f"hydra/launcher=packed_slurm: there is no {missing[0]} on the PATH; submit from a SLURM login node, "
            "or run here with hydra/launcher=packed"
        )


def submit(options: Options, points: list, root: Path, settings: Settings, fixed: Any) -> bool:
    """Submit every point that is not done, queued or running.

    With `wait`, return once the jobs have ended: True if every study is done. Without it, return True at once.
    """
    from windtunnel.records.claims import held, locked
    from windtunnel.sweep import plan
    from windtunnel.sweep.driver import finished
    from windtunnel.sweep.folder import write_sweep
    from windtunnel.sweep.run import show

    if options.nodes * options.tasks_per_node > 1 and not settings.distributed:
        raise BadInput(
            f"hydra.launcher.nodes={options.nodes}, tasks_per_node={options.tasks_per_node}: several processes for one "
            "pack need distributed=true"
        )
    if settings.dry_run:
        waiting = [point for point in points if not finished(root, point)]
        plan.show(root, points, tasks(root, waiting, options.studies_per_task))
        return True
    records.writable(root)
    write_sweep(root, points, fixed, settings.question)
    with locked(root):  # so that two commands at the same time do not submit the same points
        alive = jobs.queue(PATIENCE)
        if alive is None:
            raise BadInput("squeue: does not answer, so what is queued already is not known; try again later")
        queued = {name for name, job in jobs.latest(root).items() if job.id in alive}
        left = [point for point in points if not finished(root, point)]
        taken = {point.id for point in left} & (queued | held(root, [point.id for point in left]))
        packs = tasks(root, [point for point in left if point.id not in taken], options.studies_per_task)
        submitted = array(options, packs, root.absolute(), settings) if packs else []
        jobs.add(root, submitted)
    parts = [f"{len(points)} studies, {len(points) - len(left)} of them done"]
    parts += [f"{len(taken)} queued or running"] if taken else []
    if submitted:
        count = "1 pack" if len(packs) == 1 else f"{len(packs)} packs"
        parts.append(f"{sum(map(len, packs))} submitted in {count}: job {submitted[0].id.split('_')[0]}")
    print("; ".join(parts), flush=True)
    if left and not options.wait:
        print(f"windtunnel status {root}", flush=True)
        return True
    while left and _at_work(root):
        time.sleep(POLL_SECONDS)
    show(root, [root / point.id for point in points])
    return all(records.status(root / point.id) == "done" for point in points)


def _at_work(root: Path) -> bool:
    """Whether a job of the sweep has not ended yet. True as well where squeue does not answer."""
    alive = jobs.queue(PATIENCE)
    return alive is None or any(job.id in alive for job in jobs.latest(root).values())


def tasks(root: Path, points: list, most: int | None) -> list[list]:
    """The points in packs of at most `most` studies.

    A pack that was interrupted keeps its studies, because its checkpoint holds exactly these.
    """
    from windtunnel.sweep.packs import split
    from windtunnel.sweep.run import grouped
    from windtunnel.sweep.saved import Saved

    noted: list[list[str]] = [note["studies"] for note in records.notes(root)]
    noted.sort(key=len, reverse=True)
    packs = []
    for pack in grouped(points):
        rest = {point.id: point for point in pack}
        for studies in noted:
            if set(studies) <= set(rest) and Saved(root, studies).exists:
                packs.append([rest.pop(name) for name in studies])
        if rest:
            packs += split(list(rest.values()), most or len(rest))
    return packs


def array(options: Options, packs: list[list], root: Path, settings: Settings) -> list[jobs.Job]:
    """Submit one array, a task for each pack."""
    import submitit

    folder = root / jobs.FOLDER
    before = set(folder.glob("*")) | set(folder.glob(".*"))
    executor = submitit.SlurmExecutor(folder=folder)
    executor.update_parameters(
        job_name=f"windtunnel-{root.name}",
        partition=options.partition,
        account=options.account,
        constraint=options.constraint,
        time=options.time,
        cpus_per_task=options.cpus_per_task,
        gpus_per_node=options.gpus_per_node,
        mem=None if options.mem_gb is None else f"{round(options.mem_gb * 1024)}M",
        nodes=options.nodes,
        ntasks_per_node=options.tasks_per_node,
        array_parallelism=options.array_parallelism,
        signal_delay_s=NOTICE,
        setup=options.setup,
        stderr_to_stdout=True,
        # srun does not inherit the first two from sbatch. Without the third, the other processes would wait for ever
        # when one fails.
        srun_args=[f"--cpus-per-task={options.cpus_per_task}", "--open-mode=append", "--kill-on-bad-exit=1"],
        additional_parameters={"requeue" if options.requeue else "no-requeue": True, **options.additional},
    )
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # the exception repeats what sbatch prints
            submitted = executor.map_array(partial(task, root, settings, options.requeue), packs)
    except submitit.core.utils.FailedJobError as error:
        for path in (set(folder.glob("*")) | set(folder.glob(".*"))) - before:
            path.unlink()
        message = re.search(r"sbatch: error: (.*)", str(error))
        raise BadInput(f"sbatch refused: {message[1] if message else str(error).splitlines()[-1]}") from None
    for path in folder.glob(".submission_file_*"):  # links to files of the same folder that are named after the job
        path.unlink()
    logs = [str(job.paths.stdout.relative_to(root)) for job in submitted]
    ids = [[point.id for point in pack] for pack in packs]
    return [jobs.Job(job.job_id, log, names) for job, log, names in zip(submitted, logs, ids, strict=True)]


def task(root: Path, settings: Settings, requeue: bool, points: list) -> None:
    """Train and judge one pack on the devices of this node; every task of the array calls this."""
    from windtunnel.sweep.processes import together

    if not together(settings, lambda: _drive(root, settings, requeue, points)):
        sys.exit(1)


def _drive(root: Path, settings: Settings, requeue: bool, points: list) -> bool:
    from windtunnel.sweep.run import work
    from windtunnel.sweep.stop import Stop

    stop, before = Stop(), _reached(root, points)

    def leave() -> None:
        """If time is up, queue the task again. Whoever sends SIGTERM has already decided what becomes of the job."""
        if stop.signal == signal.SIGUSR2 and requeue and _reached(root, points) != before:
            subprocess.run(["scontrol", "requeue", _own_id()], check=True)
        elif stop.signal == signal.SIGUSR2:
            print("windtunnel: time is up; the same command submits what is left", flush=True)

    try:
        work(points, root, settings, stop, STOP_SIGNALS, leave)
    except Interrupted as error:
        leave()
        print(f"windtunnel: {error}", flush=True)
        sys.exit(128 + error.number)
    return all(records.status(root / point.id) == "done" for point in points)


def _own_id() -> str:
    """This job's id. SLURM_JOB_ID alone will not do: for one task of an array it is the id of the whole array."""
    array, number = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{number}" if array else os.environ["SLURM_JOB_ID"]


def _reached(root: Path, points: list) -> list[Any]:
    """Progress on disk, so that a task that made none is not queued again."""
    ids = {point.id for point in points}
    notes = [(note["studies"], note["saved"]) for note in records.notes(root) if ids & set(note["studies"])]
    return [*notes, *sorted(name for name in ids if (root / name / "checkpoint").exists()),
            *sorted(name for name in ids if records.status(root / name) == "done")]  # fmt: skip

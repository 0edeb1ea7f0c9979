"""Several processes for one pack: they stop, go on and end together."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.composed import TINY
from tests.sweep.commands import command, same, until, windtunnel


@contextmanager
def two(runs: Path, *overrides: str) -> Iterator[list[subprocess.Popen]]:
    """Two processes that find each other, each with a core of its own."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    pair = []
    for number in ("0", "1"):
        names = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": number}
        with open(runs.parent / f"{number}.log", "a") as log:
            typed = command("run", *overrides, f"runs={runs}", "distributed=true")
            environment = {**os.environ, **names, "SLURM_CPUS_PER_TASK": "1"}
            pair.append(subprocess.Popen(typed, env=environment, stdout=log, stderr=log))
    try:
        yield pair
    finally:
        for process in pair:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_two_processes_stop_together_go_on_together_and_end_as_one(tmp_path):
    """Two studies, one in each process, so that neither holds the whole pack. SIGTERM, and the same command again."""
    overrides = ["-m", *TINY, "train.steps=1000", "checkpoint_seconds=0", "seed=0,1"]
    with two(tmp_path / "two", *overrides) as pair:
        until(lambda: list((tmp_path / "two").glob("*/packs/*/_CHECKPOINT_METADATA")), "no checkpoint")
        for process in pair:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(timeout=600) for process in pair] == [128 + signal.SIGTERM, 1]
    assert not list((tmp_path / "two").glob("*/*/result.json"))
    with two(tmp_path / "two", *overrides) as pair:
        assert [process.wait(timeout=1200) for process in pair] == [0, 0]
    assert "goes on from step" in (tmp_path / "0.log").read_text()
    windtunnel("run", *overrides, f"runs={tmp_path / 'one'}", SLURM_CPUS_PER_TASK="2")
    same(tmp_path / "one", tmp_path / "two")


def test_processes_that_nobody_can_find_are_bad_input(tmp_path):
    for given, message in (
        ({}, "distributed=true: no other processes found"),
        ({"JAX_PROCESS_ID": "1"}, "missing, while JAX_PROCESS_ID is set"),
    ):
        done = subprocess.run(
            command("run", *TINY, f"runs={tmp_path / 'runs'}", "distributed=true"),
            capture_output=True,
            text=True,
            env={**os.environ, **given},
        )
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
        assert not list(tmp_path.iterdir())

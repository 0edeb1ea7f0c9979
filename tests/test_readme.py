"""The README's numbers, trained and judged in full; and the wheel, in an empty environment. All slow."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from windtunnel import records

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent.parent


def windtunnel(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "windtunnel.cli", *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


def verdicts(folder: Path) -> dict[str, dict[str, float]]:
    return {path.parent.name: records.row(path.parent) for path in folder.glob("runs/*/*/result.json")}


def test_bijection_of_20_symbols_is_exact_to_a_thousandth_of_a_bit(tmp_path):
    windtunnel(tmp_path, "run", "tunnel=bijection", "tunnel.symbols=20")
    (verdict,) = verdicts(tmp_path).values()
    assert verdict["kl_bits"] <= 1e-3 and verdict["verdict"] == "exact in range"


def test_the_matched_prior_extrapolates_and_rope_does_not(tmp_path):
    windtunnel(tmp_path, "run", "-m", "position=generalized_gaussian,rope", "evaluate.reach=128")
    by_position = {row["position"]: (row, name) for name, row in verdicts(tmp_path).items()}
    (matched, _), (rope, name) = by_position["generalized_gaussian"], by_position["rope"]
    assert matched["kl_bits"] <= 1e-3 and matched["kl_bits_past"] <= 5e-3
    assert matched["headroom_bits_past"] > 0.1 and matched["verdict"] == "extrapolates"
    assert rope["kl_bits"] <= 2e-3
    curves = records.read_curves(next(tmp_path.glob(f"runs/*/{name}/curves.npz")))
    assert (curves["kl_bits"][curves["first"] > 32 * 64] > 0.3).all()


PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


def answers(python: str) -> bool:
    return bool(shutil.which(python)) and not subprocess.run([python, "--version"], capture_output=True).returncode


NEWER = next((python for python in ("python3.14", "python3.13", "python3.12") if answers(python)), None)


def installed(tmp_path: Path, python: str) -> Path:
    """The wheel in an empty environment: its command."""
    subprocess.run([*PIP, "wheel", "--no-deps", "-w", str(tmp_path / "dist"), str(HERE)], check=True)
    subprocess.run([python, "-m", "venv", str(tmp_path / "venv")], check=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    subprocess.run([*PIP, "--python", str(tmp_path / "venv"), "install", str(wheel)], check=True)
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "venv/bin/windtunnel"


def smoke(tmp_path: Path, command: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    words = [str(command), "run", "+sweep=smoke", *more]
    return subprocess.run(words, cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True)


def test_the_wheel_works_where_nothing_else_is(tmp_path):
    """An empty environment, another folder, no extras: the smoke sweep runs and says that it drew no figure."""
    command = installed(tmp_path, sys.executable)
    done = smoke(tmp_path, command)
    assert done.returncode == 0, done.stderr
    assert "no figure: a report needs matplotlib, which is not installed" in done.stderr
    with open(tmp_path / "elsewhere/runs/smoke/results.csv") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["done"] * 4
    done = smoke(tmp_path, command, "hydra/launcher=packed_slurm")
    assert done.returncode == 2 and "submitit is not installed" in done.stderr, "its launcher is in the wheel"
    subprocess.run([*PIP, "--python", str(tmp_path / "venv"), "install", "hydra-joblib-launcher>=1.2,<1.3"], check=True)
    for launcher in ("basic", "joblib"):
        done = smoke(tmp_path, command, f"hydra/launcher={launcher}", f"runs={launcher}")
        assert done.returncode == 0, done.stderr
        assert len(list((tmp_path / "elsewhere" / launcher / "smoke").glob("*/result.json"))) == 4


@pytest.mark.skipif(NEWER is None or sys.version_info >= (3, 12), reason="no Python of the newer JAX beside this one")
def test_the_wheel_works_on_the_newer_generation_of_jax(tmp_path):
    done = smoke(tmp_path, installed(tmp_path, str(NEWER)))
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "elsewhere/runs/smoke").glob("*/result.json"))) == 4

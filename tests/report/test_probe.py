"""`windtunnel probe` and `probe.every`, from the command to the record."""

import json
import shutil

import pytest

from tests.composed import plain, tiny
from windtunnel import records
from windtunnel.config import Settings
from windtunnel.door import configuration
from windtunnel.errors import BadInput
from windtunnel.instruments import INSTRUMENTS, instrument
from windtunnel.report.probe import probe
from windtunnel.sweep.driver import Point
from windtunnel.sweep.folder import fixed_part
from windtunnel.sweep.run import run

POINTS = [Point(tiny(f"seed={seed}"), {"seed": str(seed)}) for seed in (0, 1)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two studies that were probed while they trained."""
    folder = tmp_path_factory.mktemp("runs") / "trial"
    _, settings = configuration(plain("probe.every=3"))
    assert run(POINTS, folder, settings, fixed_part([point.study for point in POINTS]))
    return folder


def rows(folder):
    return [json.loads(line) for line in (folder / "probe.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_series_has_its_steps_and_what_is_cheap(root):
    for point in POINTS:
        series = rows(root / point.id)
        assert [row["step"] for row in series] == [0, 3, 4]
        for row in series:
            assert {"kl_bits", "orthogonality", "deviation", "routing"} <= set(row)
    first, last = rows(root / POINTS[0].id)[0], rows(root / POINTS[0].id)[-1]
    assert first["kl_bits"] != last["kl_bits"]


@pytest.mark.slow
def test_training_is_not_changed_by_being_looked_at(root, tmp_path):
    assert run(POINTS, tmp_path / "blind", Settings(), fixed_part([point.study for point in POINTS]))
    for point in POINTS:
        assert not (tmp_path / "blind" / point.id / "probe.jsonl").exists()
        for name in ("train.jsonl", "curves.npz", "result.json"):
            assert (root / point.id / name).read_bytes() == (tmp_path / "blind" / point.id / name).read_bytes()


@pytest.mark.slow
def test_a_study_is_probed_and_its_verdict_stays(root, capsys):
    before = (root / POINTS[0].id / "result.json").read_bytes()
    probe(root, [])
    output = capsys.readouterr().out
    assert (root / POINTS[0].id / "result.json").read_bytes() == before
    record = records.read_json(root / POINTS[0].id / "probe.json")
    assert set(record) == set(INSTRUMENTS)
    assert record["convergence"]["skipped"] in output, "what makes no sense is said in a line"
    assert record["consistency"]["causal"]["heads"] and "untrained" in record["geometry"]["keys"]["heads"][0]
    for name, of in record.items():
        if "skipped" not in of:
            assert f"  {name}: {instrument(name).lines(of)[0]}" in output
    assert "consistency: do attention weights" in output, "and a table over the seeds"


def test_an_instrument_that_is_not_asked_keeps_what_it_said(root, capsys):
    folder = root / POINTS[1].id
    records.write_json(folder / "probe.json", {"stability": {"skipped": "as before"}, "geometry": {}})
    probe(folder, ["geometry"])
    record = records.read_json(folder / "probe.json")
    assert record["stability"] == {"skipped": "as before"} and record["geometry"]["manifold"]
    capsys.readouterr()


def test_bad_input_is_answered_in_a_line(root, tmp_path):
    with pytest.raises(BadInput, match="probe geometri: no such name; did you mean geometry"):
        probe(root, ["geometri"])
    with pytest.raises(BadInput, match="no records here"):
        probe(tmp_path, [])
    shutil.copytree(root / POINTS[0].id, tmp_path / "cut", ignore=shutil.ignore_patterns("checkpoint"))
    with pytest.raises(BadInput, match="holds no trained study"):
        probe(tmp_path / "cut", [])
    with pytest.raises(BadInput, match=r"probe\.every=0: should be greater than or equal to 1"):
        configuration(plain("probe.every=0"))

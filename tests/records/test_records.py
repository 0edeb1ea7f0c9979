"""Records: whole or not at all."""

import json

import numpy as np
import pytest

from tests.report.made import write_result, write_study
from windtunnel import records
from windtunnel.errors import BadInput


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "result.json"
    records.write_json(path, {"kl_bits": 1.0})
    with pytest.raises(ValueError, match="JSON compliant"):
        records.write_json(path, {"kl_bits": float("nan")})
    with pytest.raises(TypeError):
        records.write(path, 3)  # type: ignore[arg-type]
    assert records.read_json(path) == {"kl_bits": 1.0}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"], "and nothing half-written"


def test_curves_go_out_and_come_back(tmp_path):
    curves = {"kl_bits": np.asarray([0.1, np.nan]), "baseline/last-1": np.asarray([1, 2])}
    records.write_curves(tmp_path / "curves.npz", curves)
    for name, curve in records.read_curves(tmp_path / "curves.npz").items():
        np.testing.assert_array_equal(curve, curves[name])


def test_a_learning_curve_is_a_few_hundred_lines_however_long_the_training(tmp_path):
    kl_bits = np.arange(10_000, dtype=float)
    records.write_learning_curve(tmp_path / "train.jsonl", {"kl_bits": kl_bits, "cross_entropy_bits": kl_bits + 1})
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert len(lines) == 200 and lines[-1] == {"step": 10_000, "kl_bits": 9974.5, "cross_entropy_bits": 9975.5}
    assert records.read_learning_curve(tmp_path / "train.jsonl")["step"].tolist() == list(range(50, 10_001, 50))


def test_status_follows_the_files(tmp_path):
    assert records.status(tmp_path) == "waiting"
    (tmp_path / "error.txt").write_text("the loss was not finite")
    assert records.status(tmp_path) == "failed"
    write_result(tmp_path)
    assert records.status(tmp_path) == "damaged", "there is a verdict, and nothing says on what"
    write_study(tmp_path)
    assert records.status(tmp_path) == "done"


def test_a_study_that_has_not_begun_is_listed_under_what_was_swept(tmp_path):
    points = [{"study_id": name, "overrides": {"prior": name}} for name in ("begun", "waiting")]
    records.write_json(tmp_path / "sweep.json", {"points": points})
    write_study(tmp_path / "begun", {"prior": "begun"})
    assert [(row["prior"], row["status"]) for row in records.rows(tmp_path)] == [
        ("begun", "waiting"),
        ("waiting", "waiting"),
    ]


def test_a_folder_without_records_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="no records here"):
        records.studies(tmp_path / "nowhere")


def test_results_have_a_column_for_every_swept_override(tmp_path):
    for value in ("0.1", "0.2"):
        folder = tmp_path / f"study-{value}"
        write_study(folder, {"position.beta": value}, facts={"noise": 0.1})
    text = records.write_results(tmp_path).read_text().splitlines()
    assert text[0] == ",".join([*records.COLUMNS, "position.beta"])
    assert text[1].startswith("study-0.1,") and ",waiting," in text[1] and text[1].endswith(",0.1")

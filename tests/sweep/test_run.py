"""From points to records: what is written, what is not done twice, what fails alone."""

import csv
import json
import os
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import windtunnel
from tests.composed import tiny
from windtunnel import checkpoint, records
from windtunnel.config import Settings
from windtunnel.errors import BadInput
from windtunnel.models.tap import Collect
from windtunnel.records.claims import Claims
from windtunnel.report.status import standings
from windtunnel.sweep.folder import fixed_part
from windtunnel.sweep.point import Point
from windtunnel.sweep.run import evaluate, run


def fixed(points):
    return fixed_part([point.study for point in points])


POINTS = [Point(tiny(f"seed={seed}"), {"seed": str(seed)}) for seed in (0, 1)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs") / "trial"
    assert run(POINTS, root, Settings(), fixed(POINTS))
    return root


def modified(root):
    """When each file of each study was written."""
    return {path: path.stat().st_mtime_ns for path in root.glob("*/**/*") if path.is_file()}


def test_every_study_has_its_record(root):
    for point in POINTS:
        folder = root / point.id
        assert {p.name for p in folder.iterdir()} == {
            "study.json", "result.json", "curves.npz", "example.npz", "train.jsonl", "checkpoint"}  # fmt: skip
        record, result = records.read_json(folder / "study.json"), records.read_json(folder / "result.json")
        assert record["versions"]["jax"] and record["device"]["platform"] == "cpu"
        assert record["facts"]["hypotheses"] == 8 and record["facts"]["parameters"] > 0
        assert result["verdict"] and result["kl_bits"] > 0 and result["baselines"]["prior"]["kl_bits"] > 0
        assert result["attention"] == [{"kernel": "whole", "skipped_blocks": 0.0, "skipped_mass_bound": 0.0}]
        curves = records.read_curves(folder / "curves.npz")
        assert len(curves["kl_bits"]) == len(curves["first"]) and "baseline/last-horizon" in curves
        steps = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
        assert [line["step"] for line in steps] == [1, 2, 3, 4]
    (note,) = records.notes(root)
    assert [path.suffix for path in (root / "packs").iterdir()] == [".json"], "the pack was split into its studies"
    assert note["studies"] == [point.id for point in POINTS] and (note["what"], note["step"]) == ("done", 4)
    assert note["compilations"] + note["found_compiled"] == 6, (
        "prepare, start, advance, predict, the exact reasoners and the example"
    )


def test_sweep_json_holds_points_packs_and_what_is_fixed(root):
    sweep = records.read_json(root / "sweep.json")
    assert [point["study_id"] for point in sweep["points"]] == [point.id for point in POINTS]
    assert sweep["packs"] == [[point.id for point in POINTS]]
    assert sweep["fixed"]["tunnel.bits"] == 3 and "seed" not in sweep["fixed"]


def test_results_csv_has_the_promised_columns(root):
    with open(root / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == records.COLUMNS, "the swept seed already is a column"
    assert [row["seed"] for row in rows] == ["0", "1"] and rows[0]["status"] == "done"
    assert rows[0]["kl_bits_pool"] == "" and float(rows[0]["kl_bits"]) > 0
    assert rows[0]["censored"] in ("", "true", "false")


def test_what_is_done_is_not_done_again(root):
    before = modified(root)
    assert run(POINTS, root, Settings(), fixed(POINTS))
    assert modified(root) == before


def test_a_longer_reach_judges_again_but_does_not_train(root):
    before = modified(root)
    evaluate(root, ["reach=8"])
    after = modified(root)
    touched = {path.name for path in after if after[path] != before.get(path)}
    assert touched == {"result.json", "curves.npz", "example.npz"}
    result = records.read_json(root / POINTS[0].id / "result.json")
    assert result["reach"] == 8 and records.read_curves(root / POINTS[0].id / "curves.npz")["last"][-1] == 48
    evaluate(root / POINTS[0].id, ["evaluate.reach=4"])
    assert records.read_json(root / POINTS[0].id / "result.json")["reach"] == 4
    assert records.read_json(root / POINTS[1].id / "result.json")["reach"] == 8


def test_evaluate_answers_bad_input(root, tmp_path):
    with pytest.raises(BadInput, match=r"evaluate\.reech: no such name; did you mean reach"):
        evaluate(root, ["reech=8"])
    with pytest.raises(BadInput, match="should be KEY=VALUE"):
        evaluate(root, ["reach"])
    with pytest.raises(BadInput, match="no records here"):
        evaluate(tmp_path, ["reach=8"])


def test_a_folder_takes_more_points_of_its_sweep_but_not_of_another(root):
    other = [Point(tiny("seed=0", "tunnel.noise=0.2"), {"seed": "0"})]
    with pytest.raises(BadInput, match=r"tunnel\.noise=0\.2: .* holds a sweep with tunnel\.noise=0\.1"):
        run(other, root, Settings(), fixed(other))


def test_load_gives_back_the_model(root):
    import jax

    folder = root / POINTS[0].id
    study, model, params = windtunnel.load(folder)
    seen = Collect()

    @jax.jit
    def call(params):
        batch = study.tunnel.sample(jax.random.key(0), study.tunnel.prepare(6), 2, 6)
        return model(params, batch.inputs, np.arange(6), tap=seen)

    assert call(params).shape == (2, 6, 2) and 0 in seen["attention"]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_its_study_alone(tmp_path, capsys):
    """In one pack: an absurd rate breaks one study, its neighbour ends as if nothing had happened.

    Asked to, the sweep stops at once; the same command without that goes on; and once more retries what failed.
    """
    absurd = tiny("train.learning_rate=1e30", "train.clip=1e30", "train.steps=300")
    points = [
        Point(absurd, {"train.learning_rate": "1e30"}),
        Point(tiny("train.clip=1e30", "train.steps=300"), {"train.learning_rate": "0.05"}),
    ]
    root = tmp_path / "trial"
    broken, sound = (root / point.id for point in points)

    assert not run(points, root, Settings(fail_fast=True), fixed(points))
    assert records.status(broken) == "failed" and records.status(sound) == "waiting"
    assert "stopped at the first failure" in capsys.readouterr().out
    assert [(standing.state, standing.why[:14]) for standing in standings(root)] == [
        ("failed", "the loss was n"),
        ("cut off", "goes on from s"),
    ]

    assert not run(points, root, Settings(), fixed(points))
    assert "goes on from step" in capsys.readouterr().out
    assert records.status(broken) == "failed" and records.status(sound) == "done"
    error = (broken / "error.txt").read_text()
    assert "not finite at step" in error and "'train.learning_rate': 1e+30" in error
    assert not checkpoint.exists(broken / "checkpoint")
    rows = {row["study_id"]: row for row in records.rows(root)}
    assert rows[broken.name]["status"] == "failed" and rows[sound.name]["kl_bits"] > 0

    before = modified(root)
    assert not run(points, root, Settings(), fixed(points))
    after = modified(root)
    assert after[broken / "error.txt"] > before[broken / "error.txt"], "what failed is tried again"
    assert all(after[path] == before[path] for path in before if sound in path.parents), "what is done is not"


def test_a_runs_folder_that_cannot_be_written_is_refused_before_anything_is_done(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"runs=.*file/trial: cannot be written to"):
        run(POINTS, tmp_path / "file" / "trial", Settings(), None)
    assert os.listdir(tmp_path) == ["file"]


def test_every_key_of_a_record_is_documented(root):
    """docs/records.md is the schema: it names every file, key and column that there is."""
    page = (Path(__file__).parents[2] / "docs" / "records.md").read_text()
    named = set(re.findall(r"`([\w/]+)`", page))
    folder = root / POINTS[0].id
    result = records.read_json(folder / "result.json")
    keys = {*records.read_json(root / "sweep.json"), *records.read_json(folder / "study.json"), *records.COLUMNS}
    keys |= {
        *records.read_json(folder / "study.json")["facts"],
        *result,
        *result["recovery"][0],
        *result["attention"][0],
    }
    for name in ("curves.npz", "example.npz"):
        keys |= {*records.read_curves(folder / name)}
    keys |= {key for line in (folder / "train.jsonl").read_text().splitlines() for key in json.loads(line)}
    described = {re.sub(r"(_past)?(_se)?$", "", key.replace("baseline/", "")) for key in keys}
    assert described - named - {re.sub("^baseline/", "", name) for name in named} - {*result["baselines"]} == set()
    assert all(path.name in page for path in folder.iterdir())


@pytest.mark.slow
def test_what_another_process_is_at_work_on_is_left_to_it_and_taken_over_if_it_dies(tmp_path, capsys):
    """The other one is a claim here, let go of without a result once this one has done what was free."""
    points = [
        Point(tiny(f"position={name}", f"seed={seed}"), {"position": name, "seed": str(seed)})
        for name in ("uniform", "generalized_gaussian")
        for seed in (0, 1)
    ]  # of which one pack is compiled already, for the other tests of this file
    claims = Claims(tmp_path)
    claims.take([point.id for point in points[:2]])
    states = []

    def die():
        while records.status(tmp_path / points[-1].id) != "done":
            time.sleep(0.1)
        states.extend(standing.state for standing in standings(tmp_path))
        claims.close()

    other = threading.Thread(target=die)
    other.start()
    assert run(points, tmp_path, Settings(), fixed(points))
    other.join()
    assert states == ["running", "running", "done", "done"]
    assert "position=uniform (2 studies): left to another process" in capsys.readouterr().out
    assert [standing.state for standing in standings(tmp_path)] == ["done"] * 4

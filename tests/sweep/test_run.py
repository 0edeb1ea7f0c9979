"""From points to records: what is written, what is not done twice, what fails alone, what survives a kill."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import windtunnel
from tests.composed import TINY, tiny
from windtunnel import checkpoint, records
from windtunnel.config import Settings
from windtunnel.errors import BadInput
from windtunnel.report.status import standings
from windtunnel.sweep.claims import Claims
from windtunnel.sweep.facts import Point
from windtunnel.sweep.place import fixed_part
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
    assert note["compilations"] == 5, "prepare, start, advance, predict, and the exact reasoners"


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
    batch = study.tunnel.sample(jax.random.key(0), study.tunnel.prepare(6), 2, 6)
    seen = {}
    logits = model(params, batch.inputs, np.arange(6), tap=lambda name, value: seen.setdefault(name, value))
    assert logits.shape == (2, 6, 2) and "0.attention" in seen


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
    assert [(one.state, one.why[:14]) for one in standings(root)] == [
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


def test_killed_in_the_middle_it_ends_where_it_would_have_ended(tmp_path):
    """SIGKILL and SIGTERM, for real, and the same command again: bit for bit the same parameters and verdict."""

    def command(name, every=0):
        overrides = [*TINY, "train.steps=600", "train.batch=2", "evaluate.reach=1", f"checkpoint_seconds={every}"]
        arguments = ["run", "-m", *overrides, "tunnel.noise=0.1,0.2", f"runs={tmp_path / name}"]
        return [sys.executable, "-m", "windtunnel.cli", *arguments]

    def wait_for(process, met):
        deadline = time.monotonic() + 120
        while not met():
            assert process.poll() is None and time.monotonic() < deadline, "it was not cut off while it trained"
            time.sleep(0.01)

    def note():
        return next((records.read_json(path) for path in (tmp_path / "cut").glob("*/packs/*.json")), {"saved": 0})

    straight = subprocess.Popen(command("straight"), stdout=subprocess.DEVNULL)
    cut = subprocess.Popen(command("cut"), stdout=subprocess.DEVNULL)
    wait_for(cut, lambda: note()["saved"])
    cut.send_signal(signal.SIGKILL)
    cut.wait()
    killed = note()["saved"]

    cut = subprocess.Popen(command("cut", every=1000), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(cut, lambda: note()["what"] == "training" and note()["process"] == cut.pid)
    began = time.monotonic()
    cut.send_signal(signal.SIGTERM)
    out, err = cut.communicate(timeout=60)
    assert time.monotonic() - began < 10 and cut.returncode == 128 + signal.SIGTERM
    assert err.endswith("windtunnel: interrupted (SIGTERM); the same command goes on from the last checkpoint\n")
    assert f"goes on from step {killed}\n" in out
    assert note()["saved"] > killed, "only the signal can have saved it"
    assert not list((tmp_path / "cut").glob("*/*/result.json"))
    (root,) = (tmp_path / "cut").iterdir()
    assert [one.why for one in standings(root)] == [f"goes on from step {note()['saved']} of 600"] * 2

    out = subprocess.run(command("cut"), capture_output=True, text=True, check=True).stdout
    assert "goes on from step" in out
    assert straight.wait(timeout=120) == 0

    folders = sorted(path.parent for path in (tmp_path / "straight").glob("*/*/result.json"))
    assert len(folders) == 2
    for folder in folders:
        twin = tmp_path / "cut" / folder.relative_to(tmp_path / "straight")
        for name in ("result.json", "curves.npz", "train.jsonl"):
            assert (folder / name).read_bytes() == (twin / name).read_bytes(), name
        (_, _, params), (_, _, others) = windtunnel.load(folder), windtunnel.load(twin)
        import jax

        assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), params, others))


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


def test_what_another_process_is_at_work_on_is_left_to_it_and_taken_over_if_it_dies(tmp_path, capsys):
    """The other one is a claim here, let go of without a result once this one has done what was free."""
    points = [Point(tiny(f"position={name}"), {"position": name}) for name in ("uniform", "alibi")]
    claims = Claims(tmp_path)
    claims.take([points[0].id])
    states = []

    def die():
        while records.status(tmp_path / points[1].id) != "done":
            time.sleep(0.1)
        states.extend(one.state for one in standings(tmp_path))
        claims.close()

    other = threading.Thread(target=die)
    other.start()
    assert run(points, tmp_path, Settings(), fixed(points))
    other.join()
    assert states == ["running", "done"]
    assert "position=uniform (1 study): left to another process" in capsys.readouterr().out
    assert [one.state for one in standings(tmp_path)] == ["done", "done"]


@pytest.mark.slow
def test_two_processes_share_a_sweep(tmp_path):
    """Whoever trains what, each ends with the whole answer, and no study is trained twice."""
    arguments = ["run", "-m", *TINY, "train.steps=200", "position=uniform,alibi,rope", f"runs={tmp_path}"]
    command = [sys.executable, "-m", "windtunnel.cli", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    answers = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    assert answers[0][0].splitlines()[-1] == answers[1][0].splitlines()[-1], "the same answer"
    (root,) = tmp_path.iterdir()
    with open(root / "results.csv") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["done"] * 3
    notes = records.notes(root)
    assert [note["compilations"] > 0 and note["what"] for note in notes] == ["done"] * 3
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
    command = [sys.executable, "-m", "windtunnel.cli", "run", *TINY, "model.width=64", "model.hidden=256"]
    command += [f"runs={small_disk}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("windtunnel: ") and done.stderr.count("\n") == 1
    assert "cannot be written (No space left on device)" in done.stderr
    root = small_disk / "single"
    assert [one.state for one in standings(root)] == ["cut off"]
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert [one.state for one in standings(root)] == ["done"]

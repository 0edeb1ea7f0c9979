"""Trackers: several studies at once, each with its curve and verdict; none is needed, and none can do harm."""

import importlib.util
import json
import sqlite3

import pytest

from tests.composed import plain
from windtunnel import trackers
from windtunnel.door import configuration
from windtunnel.errors import BadInput
from windtunnel.trackers import TRACKERS, Tracking


def tracked(name, root):
    """Two studies side by side, as a pack trains; what was said."""
    lines: list[str] = []
    tracking = Tracking(name, root, lines.append)
    for study in ("a", "b"):
        tracking.begin(study, {"seed": 1})
    for step in (1, 2):
        for study in ("a", "b"):
            tracking.log(study, step, {"kl_bits": step / (2 if study == "a" else 4)})
    for study in ("a", "b"):
        tracking.log(study, 2, {"verdict/kl_bits": 0.25})
        tracking.end(study)
    return lines


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    assert tracked("tensorboard", tmp_path) == []
    for study, scale in (("a", 2), ("b", 4)):
        (file,) = (tmp_path / "tensorboard" / study).iterdir()
        data, seen = file.read_bytes(), []
        while data:  # TFRecord: length, its checksum, the event, its checksum
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            seen += [(value.tag, event.step, value.simple_value) for value in event.summary.value if value.simple_value]
            data = data[16 + size :]
        assert seen == [("kl_bits", 1, 1 / scale), ("kl_bits", 2, 2 / scale), ("verdict/kl_bits", 2, 0.25)]


def test_trackio(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    assert tracked("trackio", tmp_path / "trial") == []
    with sqlite3.connect(tmp_path / "trackio" / "trial.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics order by run_name, id").fetchall()
    seen = [(name, step, json.loads(metrics)) for name, step, metrics in rows]
    assert seen == [
        ("a", 1, {"kl_bits": 0.5}),
        ("a", 2, {"kl_bits": 1.0}),
        ("a", 2, {"verdict/kl_bits": 0.25}),
        ("b", 1, {"kl_bits": 0.25}),
        ("b", 2, {"kl_bits": 0.5}),
        ("b", 2, {"verdict/kl_bits": 0.25}),
    ]


def test_wandb(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    pytest.importorskip("wandb")
    assert tracked("wandb", tmp_path) == []
    for study in ("a", "b"):
        (run,) = (tmp_path / "wandb").glob(f"offline-run-*-{tmp_path.name}-{study}")
        (file,) = run.glob("*.wandb")
        assert b"verdict/kl_bits" in file.read_bytes()


class Breaks(trackers.Tracker):
    def __init__(self, root):
        self.calls = 0

    def begin(self, study, config): ...

    def log(self, study, step, numbers):
        self.calls += 1
        raise ConnectionError("no network\nat all")

    def end(self, study): ...


def test_one_that_fails_is_given_up_and_the_training_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(TRACKERS, "wandb", ("json", Breaks))
    assert tracked("wandb", tmp_path) == ["tracker=wandb is given up: ConnectionError: no network"]


def test_none_is_none(tmp_path):
    assert tracked(None, tmp_path) == [] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_one_is_one_line_before_anything_trains(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    message = rf"tracker={name}: .* is not installed \(pip install 'windtunnel\[{name}\]'\)"
    with pytest.raises(BadInput, match=message):
        configuration(plain(f"tracker={name}"))


def test_an_unknown_one_is_bad_input():
    with pytest.raises(BadInput, match="tracker=mlflow: should be 'tensorboard', 'trackio' or 'wandb'"):
        configuration(plain("tracker=mlflow"))

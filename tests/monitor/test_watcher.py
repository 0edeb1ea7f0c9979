"""Checks while a pack trains, through the driver: they change nothing, and are written down."""

import json

import pytest

from tests.composed import tiny
from tests.sweep.commands import ENDED, parameters
from windtunnel.config import Settings
from windtunnel.records.health import in_words, read_health, worst
from windtunnel.sweep.folder import fixed_part
from windtunnel.sweep.point import Point
from windtunnel.sweep.run import run


def trained(root, *overrides):
    points = [Point(tiny(f"seed={seed}", *overrides), {"seed": str(seed)}) for seed in (0, 1)]
    assert run(points, root, Settings(compilation_cache=None), fixed_part([point.study for point in points]))
    return [root / point.id for point in points]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    watched = trained(root / "watched", "monitor.every=3", "monitor.examples=4")
    return watched, trained(root / "plain")


def test_a_study_that_is_watched_trains_as_one_that_is_not(folders):
    for watched, plain in zip(*folders, strict=True):
        assert watched.name == plain.name
        for name in ENDED:
            assert (watched / name).read_bytes() == (plain / name).read_bytes(), name
        assert parameters(watched) == parameters(plain)
        assert not (plain / "health.jsonl").exists()


def test_every_check_is_a_line(folders):
    for folder in folders[0]:
        rows = read_health(folder)
        assert [row["step"] for row in rows] == [3, 4], "and one at the end"
        assert rows[0]["events"] == [], "what fails from the beginning is no alarm"
        assert rows[0]["monitors"]["kl_bits"]["state"] == worst(rows[0]) == "fails"
        assert rows[0]["monitors"]["kl_bits"]["null"] == rows[1]["monitors"]["kl_bits"]["null"]
        assert in_words(folder).startswith("fails: ") and "kl_bits" in in_words(folder)
        json.loads((folder / "health.jsonl").read_text().splitlines()[0])

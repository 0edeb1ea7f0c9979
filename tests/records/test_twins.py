"""Twins: what tells a training that was too short from a model that cannot do better."""

import pytest

from tests.report.made import write_result, write_study
from windtunnel import records
from windtunnel.records.groups import gather
from windtunnel.records.twins import undertrained


def row(steps, kl, seed=0, **more):
    return {"status": "done", "kl_bits": kl, "evaluate": {"reach": 1}, "overrides": {},
            "study": {"seed": seed, "train": {"steps": steps}}, **more}  # fmt: skip


@pytest.mark.parametrize(("kl", "expected"), [(0.07, True), (0.09, False), (None, None)])
def test_it_is_held_against_the_same_study_at_half_the_steps(kl, expected):
    study, twin = row(200, kl), row(100, 0.1)
    assert undertrained(study, [study, twin]) is expected
    assert undertrained(twin, [study, twin]) is None, "the twin has none"


def test_no_other_study_is_its_twin():
    study = row(200, 0.01)
    others = [row(100, 0.1, seed=1), row(50, 0.1), {**row(100, 0.1), "status": "waiting"},
              {**row(100, 0.1), "evaluate": {"reach": 2}}]  # fmt: skip
    assert undertrained(study, [study, *others]) is None


def test_twins_are_in_results_and_not_in_tables(tmp_path):
    points = []
    for steps, kl, given in ((200, 0.01, {"seed": "0"}), (100, 0.1, {"seed": "0", "twin": "half"})):
        name = f"steps{steps}"
        write_study(tmp_path / name, given, study={"train": {"steps": steps}}, facts={"steps": steps})
        write_result(tmp_path / name, kl_bits=kl, verdict="fails in range")
        points.append({"study_id": name, "overrides": given})
    records.write_json(tmp_path / "sweep.json", {"points": points, "packs": [], "fixed": {}})
    assert [row["undertrained"] for row in records.rows(tmp_path)] == [True, None]
    (group,) = gather([tmp_path])
    assert len(group.rows) == 1 and group.verdict == "fails in range; undertrained"


@pytest.mark.parametrize(
    ("old", "what"),
    [
        ({}, "a record of schema 1, and this version reads 3; make it again: windtunnel run +sweep=smoke"),
        ({"schema": 2}, "a record of schema 2, and this version reads 3; judge it again: windtunnel evaluate "),
    ],
)
def test_records_of_another_schema_say_what_to_run(tmp_path, old, what):
    study = {"study": {}, "overrides": {}, "facts": {}}
    records.write_json(tmp_path / "old" / "study.json", {**study, **old})
    records.write_json(tmp_path / "old" / "result.json", {"kl_bits": 0.1, **old})
    points = [{"study_id": "old", "overrides": {}}]
    records.write_json(tmp_path / "sweep.json", {"points": points, "commands": ["windtunnel run +sweep=smoke"]})
    (row,) = records.rows(tmp_path)
    assert row["status"] == "damaged" and what in row["damage"]

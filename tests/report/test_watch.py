"""What monitors said, where people look: in status, while it runs, and as a picture."""

import json

import pytest
from matplotlib.figure import Figure

from tests.report.made import write_result, write_study
from windtunnel import records
from windtunnel.records.groups import groups
from windtunnel.report import health, status
from windtunnel.report.watch import events, watch


def check(step, kl_bits, *happened):
    state = "good" if kl_bits < 0.01 else "fails"
    unit = {"threshold": 0.01, "null": 1.0, "exact": 0.0}
    return {"step": step, "monitors": {"kl_bits": {"value": kl_bits, "state": state, **unit}}, "events": list(happened)}


@pytest.fixture
def sweep(tmp_path):
    """One study that breaks and comes back, and one that nobody watches."""
    root = tmp_path / "trial"
    names = ["broken", "plain"]
    points = [{"study_id": name, "overrides": {"seed": str(n)}} for n, name in enumerate(names)]
    records.write_json(root / "sweep.json", {"points": points})
    for name in names:
        write_study(root / name)
        write_result(root / name)
    rows = [check(50, 0.005), check(100, 0.3, {"what": "fault", "fault": "rank_one", "step": 60, "steps": 1},
            {"what": "alarm", "monitor": "kl_bits", "value": 0.3}), check(150, 0.02)]  # fmt: skip
    records.write(root / "broken" / "health.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return root


def test_status_has_a_column_where_anybody_watched(sweep, capsys):
    status.show(sweep)
    out = capsys.readouterr().out
    assert "health" in out and "fails: kl_bits" in out and out.count("done") == 3
    (sweep / "broken" / "health.jsonl").unlink()
    status.show(sweep)
    assert "health" not in capsys.readouterr().out


def test_events_come_in_the_order_of_steps_and_watching_ends_with_the_sweep(sweep, capsys):
    told = ["broken · step 100 · fault: rank_one", "broken · step 100 · alarm: kl_bits 0.30"]
    assert events([sweep / "broken", sweep / "plain"]) == told
    watch(sweep, seconds=0)
    assert capsys.readouterr().out.splitlines() == [*told, "2 studies: 2 done"]


def test_nobody_is_waited_for_for_ever(sweep, capsys):
    (sweep / "plain" / "result.json").unlink()
    watch(sweep, seconds=0, quiet=0)
    assert "1 done, 1 cut off" in capsys.readouterr().out
    (sweep / "broken" / "health.jsonl").write_text("{")
    watch(sweep, seconds=0, quiet=0)
    assert "step 100" not in capsys.readouterr().out, "a damaged file is for `status` to name"


def test_the_picture_has_threshold_and_events(sweep):
    picture = health.health_picture(sweep, groups(records.rows(sweep), ["seed"]))
    figure = Figure(layout="constrained")
    picture.draw(figure, False)
    (axes,) = figure.axes
    lines = [line.get_xydata().tolist() for line in axes.lines]
    assert [[50, 0.005], [100, 0.3], [150, 0.02]] in lines and [[60, 0.3]] in lines, "the fault at its step"
    assert any(line.get_ydata()[0] == line.get_ydata()[-1] == 0.01 for line in axes.lines)
    (sweep / "broken" / "health.jsonl").unlink()
    assert health.health_picture(sweep, groups(records.rows(sweep), ["seed"])) is None

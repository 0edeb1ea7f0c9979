"""A model from outside stands beside native studies of the same problem, in every table and page."""

import csv
import sys

import numpy as np
import pytest

from tests.external.posed import URN, urn
from windtunnel import cli, records
from windtunnel.errors import BadInput
from windtunnel.external import pose
from windtunnel.load import read_study
from windtunnel.records.groups import gather, swept_keys
from windtunnel.report import page, tables

NATIVE = ("model.width=8", "model.hidden=8", "train.steps=2", "position=uniform", "seed=0,1")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two native studies, one of whose keys was typed in another way, and two of a model from outside."""
    runs = tmp_path_factory.mktemp("runs")
    patch = pytest.MonkeyPatch()
    patch.setattr(sys, "argv", ["windtunnel"])
    patch.setattr(cli, "ended", lambda: [])
    with patch.context():
        cli.run(["-m", *URN, *NATIVE, f"runs={runs}", "tunnel.pool=null"])
    patch.undo()
    for seed in (0, 1):
        urn().judge(urn().exact.baselines["last-4"], "last4", seed=seed, runs=runs)
    return runs


def native(runs):
    (root,) = (path.parent for path in runs.glob("*/sweep.json"))
    return root


def test_they_are_of_one_problem(runs):
    groups = gather([native(runs), runs / "external"])
    assert [group.key["model"] for group in groups] == ["transformer", "last4"]
    assert len({group.problem for group in groups}) == 1
    assert [len(group.done) for group in groups] == [2, 2]


def test_tables_show_them_in_one_line_each_however_wide(runs, capsys, monkeypatch):
    for width in ("80", "160"):
        monkeypatch.setattr("windtunnel.progress.PIPED_WIDTH", int(width))
        tables.show([native(runs), runs / "external"])
        _, *lines, _ = capsys.readouterr().out.splitlines()  # without the title and the answer
        assert max(map(len, lines)) <= int(width)
    assert any("last4" in line and "external" in line for line in lines)
    tables.show([native(runs), runs / "external"], form="csv")
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["model"] for row in rows] == ["transformer", "last4"]
    assert float(rows[1]["kl_bits"]) == pytest.approx(urn_kl("last-4"), rel=1e-4)


def urn_kl(name):
    from windtunnel.compare import verdict

    return verdict(urn().problem, urn().exact, urn().exact.baselines[name])[0]["kl_bits"]


def test_results_csv_has_what_is_known_and_nothing_else(runs):
    with open(runs / "external" / "results.csv") as file:
        first, second = csv.DictReader(file)
    assert (first["model"], first["tunnel"], first["hypotheses"], first["horizon"]) == ("last4", "urn", "10", "8")
    assert first["status"] == "done" and first["parameters"] == first["train_seconds"] == first["supervision"] == ""
    assert (first["seed"], second["seed"]) == ("0", "1") and float(first["kl_bits"]) > 0
    with open(native(runs) / "results.csv") as file:
        other = next(csv.DictReader(file))
    same = ("tunnel", "hypotheses", "noise", "prior", "horizon", "reach", "headroom_bits_past")
    assert [first[key] for key in same] == [other[key] for key in same]


def test_the_report_claims_nothing_about_how_it_was_trained(runs):
    written = page.write(runs / "external")
    text = written[0].read_text()
    assert "windtunnel judge PROBLEM PREDICTIONS name=last4 seed=0" in text
    assert "windtunnel run" not in text and "windtunnel probe" not in text and "windtunnel evaluate" not in text
    (one,) = (runs / "external").glob("*-seed0-*")
    assert "last4" in page.write(one)[0].read_text()


def test_status_counts_it_as_done(runs, capsys):
    from windtunnel.report import status

    status.show(runs)
    assert "external" in capsys.readouterr().out
    status.show(runs / "external")
    assert "2 studies: 2 done" in capsys.readouterr().out


def test_its_parameters_are_nobodys(runs):
    (one,) = (runs / "external").glob("*-seed0-*")
    with pytest.raises(BadInput, match="a model from outside, whose parameters are not here"):
        read_study(one)
    assert records.read_json(one / "study.json")["external"] == "log_q"


def test_judged_again_it_is_replaced(tmp_path):
    for name in ("last-1", "last-4"):
        urn().judge(urn().exact.baselines[name], "x", runs=tmp_path)
    (path,) = (tmp_path / "external").glob("*/result.json")
    assert records.read_json(path)["kl_bits"] == pytest.approx(urn_kl("last-4"), rel=1e-4)


def test_two_problems_do_not_share_a_line(tmp_path):
    """Also with one name for the model: what differs between them is a column."""
    noisier = pose(*URN, "tunnel.noise=0.2")
    for posed in (urn(), noisier):
        posed.judge(posed.exact.log_predictive, "x", runs=tmp_path)
        posed.judge(np.zeros_like(posed.exact.log_predictive), "y", logits=True, runs=tmp_path)
    assert swept_keys(tmp_path / "external") == ["model", "tunnel.noise"]
    groups = gather([tmp_path / "external"])
    assert [tuple(group.key.values()) for group in groups] == [("x", "0.1"), ("x", "0.2"), ("y", "0.1"), ("y", "0.2")]
    assert groups[0].problem == groups[2].problem != groups[1].problem

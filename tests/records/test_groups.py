"""Groups: what belongs together, in which order, and which is best."""

import pytest

from tests.report.made import kl, study, sweep
from windtunnel import records
from windtunnel.errors import BadInput
from windtunnel.records.groups import best, gather

CLOSE, FAR = kl(0.001, 0.0011, 0.0012), kl(0.1, 0.11, 0.12)


def names(groups):
    return [group.name for group in groups]


def test_numbers_ascend_and_names_keep_the_order_of_the_sweep(tmp_path):
    root = sweep(tmp_path / "a", {value: kl(1.0) for value in ("10", "9", "0.5", "1e3")}, key="tunnel.noise")
    assert names(gather([root])) == ["0.5", "9", "10", "1000"]
    assert names(gather([sweep(tmp_path / "b", {value: kl(1.0) for value in ("rope", "bam", "alibi")})])) == [
        "rope",
        "bam",
        "alibi",
    ]


def test_the_same_point_of_several_sweeps_stands_together_however_it_is_written(tmp_path):
    first = sweep(tmp_path / "x/one", {"0.50": kl(1.0), "1.0": kl(1.0)}, key="train.rate")
    other = sweep(tmp_path / "x/two", {"1": kl(1.0), "0.5": kl(1.0)}, key="train.rate")
    assert names(gather([first, other])) == ["0.5 one", "0.5 two", "1 one", "1 two"]
    twin = sweep(tmp_path / "y/one", {"0.5": kl(1.0)}, key="train.rate")
    assert names(gather([first, twin])) == [f"0.5 {first}", f"0.5 {twin}", f"1 {first}"]


def test_by_any_field_that_studies_have(tmp_path):
    root = sweep(tmp_path / "a", {"rope": kl(1.0, 2.0), "bam": kl(3.0, 4.0)})
    assert names(gather([root], ["tunnel"])) == ["recall"] and len(gather([root], ["tunnel"])[0].rows) == 4
    assert names(gather([root], ["tunnel.noise", "position"])) == ["0.1 rope", "0.1 bam"]
    with pytest.raises(BadInput, match=r"--by=postion: no such name; did you mean position\?"):
        gather([root], ["postion"])


def test_studies_that_were_run_one_by_one_are_told_apart_by_what_differs(tmp_path):
    """As in runs/single: nothing was swept, and yet two noises are not two seeds."""
    for noise, seed in ((0.1, "0"), (0.1, "1"), (0.2, "0")):
        fixed = {"tunnel": {"name": "recall", "noise": noise}, "seed": int(seed)}
        folder = tmp_path / study(tmp_path, {"n": str(noise), "seed": seed}, kl(1.0)[0], fixed)
        records.write_sealed(folder / "study.json", {**records.read_study(folder), "overrides": {}})
    assert [(group.key, len(group.rows)) for group in gather([tmp_path])] == [
        ({"tunnel.noise": "0.1"}, 2),
        ({"tunnel.noise": "0.2"}, 1),
    ]


def test_what_has_not_begun_stands_in_its_group(tmp_path):
    root = sweep(tmp_path / "a", {"rope": [*kl(1.0), None, {"error": "not finite"}]})
    for path in (root / "positionrope-seed1").iterdir():
        path.unlink()
    (group,) = gather([root], ["tunnel", "position"])
    assert group.missing == {"failed": 1, "waiting": 1} and group.verdict == "1 extrapolates, 1 waiting, 1 failed"


@pytest.mark.parametrize(
    ("results", "winner"),
    [
        ({"rope": FAR, "bam": CLOSE, "alibi": FAR}, ["bam"]),
        ({"rope": FAR, "alibi": FAR}, []),
        ({"bam": kl(0.001, 0.01, 0.1), "rope": FAR}, []),  # nearer in the mean, and unsure
        ({"bam": CLOSE[:2], "rope": FAR}, []),  # two seeds have no interval
        ({"bam": CLOSE}, []),  # alone
    ],
)
def test_best_is_only_what_is_surely_best(tmp_path, results, winner):
    assert names(best(gather([sweep(tmp_path / "a", results)]), "kl_bits")) == winner


def test_no_study_is_better_than_one_of_another_problem(tmp_path):
    root = sweep(tmp_path / "a", {"0.1": FAR, "0.2": CLOSE}, key="tunnel.noise")
    assert best(gather([root]), "kl_bits") == []
    other = sweep(tmp_path / "b", {"rope": CLOSE}, tunnel={"name": "recall", "noise": 0.3})
    same = sweep(tmp_path / "c", {"rope": CLOSE})
    far = sweep(tmp_path / "d", {"rope": FAR})
    assert best(gather([far, other]), "kl_bits") == []
    assert names(best(gather([far, same]), "kl_bits")) == ["rope c"]


def test_holding_to_the_reach_beats_any_ratio_that_ends_before(tmp_path):
    held = [{"extrapolation_ratio": 4.0, "critical_length": 32, "censored": True}] * 3
    ended = [{"extrapolation_ratio": ratio, "censored": False} for ratio in (1.2, 1.3, 1.2)]
    failed = [{"extrapolation_ratio": None, "critical_length": None, "censored": None}] * 3
    root = sweep(tmp_path / "a", {"rope": ended, "bam": held, "nope": failed})
    assert names(best(gather([root]), "extrapolation_ratio")) == ["bam"]
    both = sweep(tmp_path / "b", {"bam": held, "fire": held})
    assert best(gather([both]), "extrapolation_ratio") == []
    assert best(gather([root]), "headroom_bits_past") == [], "of the data, and no merit"

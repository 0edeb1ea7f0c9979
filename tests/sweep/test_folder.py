"""Which folder a sweep lives in: one sweep a folder, a new one on request, and never two mixed."""

import dataclasses
from functools import cache

import pytest

from tests.composed import tiny
from windtunnel import records
from windtunnel.errors import BadInput
from windtunnel.sweep.folder import fixed_part, folder_for, swept, write_sweep
from windtunnel.sweep.point import Point


@cache
def composed(*overrides):
    return tiny(*overrides)


def studies(*overrides, seeds=(0, 1)):
    return [dataclasses.replace(composed(*overrides), seed=seed) for seed in seeds]


def written(root, studies_written, **overrides):
    """The folder that these studies go to, once they are written down there."""
    fixed = fixed_part(studies_written)
    there = folder_for(root, studies_written, fixed, force=False)
    points = [Point(study, {"seed": str(study.seed), **overrides}) for study in studies_written]
    there.mkdir(parents=True, exist_ok=True)
    write_sweep(there, points, fixed)
    return there


@pytest.fixture
def root(tmp_path):
    return written(tmp_path / "trial", studies())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("tunnel.noise=0.2", r"tunnel\.noise=0\.2: .*trial holds a sweep with tunnel\.noise=0\.1"),
        ("evaluate.reach=8", r"evaluate\.reach=8\.0: .*trial holds a sweep with evaluate\.reach=4\.0"),
        ("train.horizon=7", r"train\.horizon=7: .*trial holds a sweep with train\.horizon=6"),
        ("position=alibi", r"position\.name=alibi: .*trial holds a sweep with position\.name=generalized_gaussian"),
    ],
)
def test_another_sweep_is_refused_and_the_difference_named(root, change, message):
    """A changed horizon or reach has other bins: it is another sweep too."""
    with pytest.raises(BadInput, match=rf"{message}; --force starts afresh in trial-2, or give another runs=…$"):
        written(root, studies(change))


def test_more_of_the_same_sweep_and_less_of_it_are_not(root):
    assert written(root, studies(seeds=(2, 3))) == root
    assert written(root, studies(seeds=(1,))) == root, "though here the seed is fixed"
    assert written(root, studies(seeds=(0, 1, 2, 3))) == root
    assert "seed" not in records.read_json(root / "sweep.json")["fixed"]
    assert len(records.read_json(root / "sweep.json")["points"]) == 4


def test_to_sweep_what_was_fixed_is_another_sweep_unless_it_holds_the_first(root):
    noisy = [*studies("tunnel.noise=0.2"), *studies("tunnel.noise=0.3")]
    with pytest.raises(BadInput, match=r"tunnel\.noise: is swept here; .* holds a sweep with tunnel\.noise=0\.1"):
        written(root, noisy)
    assert written(root, [*studies(), *noisy]) == root


def test_force_begins_a_folder_and_later_commands_find_theirs(root):
    same, other = studies(), studies("tunnel.noise=0.2")
    assert folder_for(root, other, fixed_part(other), force=True).name == "trial-2"
    (root.parent / "trial-2").mkdir()
    assert written(root, other).name == "trial-2", "the one that is empty"
    assert written(root, same) == root and written(root, other).name == "trial-2"
    assert folder_for(root, same, fixed_part(same), force=True).name == "trial-3"
    assert folder_for(root.parent / "new", same, fixed_part(same), force=True).name == "new"


def test_a_single_study_goes_on_where_it_was_begun_last(tmp_path):
    (study,) = studies(seeds=(0,))
    root = tmp_path / "single"
    assert folder_for(root, [study], None, force=False) == root
    (root / Point(study).id).mkdir(parents=True)
    assert folder_for(root, [study], None, force=True).name == "single-2"
    (tmp_path / "single-2" / Point(study).id).mkdir(parents=True)
    assert folder_for(root, [study], None, force=False).name == "single-2"
    assert folder_for(root, studies(seeds=(1,)), None, force=False) == root


def test_what_was_swept_before_is_known_of_later_points(root):
    """Else a table would show the new points under no noise at all."""
    written(root, [*studies(), *studies("tunnel.noise=0.2")], **{"tunnel.noise": "0.2"})
    later = studies(seeds=(5, 6))
    points = swept(root, later, [{"seed": "5"}, {"seed": "6"}])
    assert [point.overrides for point in points] == [
        {"seed": "5", "tunnel.noise": "0.1"},
        {"seed": "6", "tunnel.noise": "0.1"},
    ]

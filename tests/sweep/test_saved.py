"""A pack on disk: what was cut off goes on, also in parts."""

import subprocess
import sys

import numpy as np
import pytest

from tests.hostile.damage import swap
from windtunnel import checkpoint, records
from windtunnel.errors import BadInput
from windtunnel.sweep.saved import Saved, Training, cut_off

WHOLE = ["a", "b", "c"]


def training(rows, padding=0):
    """Row i of every array is i; the padding is of numbers that must not come back."""
    state = {"kernel": np.concatenate([np.full((rows, 2), np.arange(rows)[:, None]), np.full((padding, 2), 99)])}
    curves = {"kl_bits": np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)}
    return Training(state, curves, np.int32(2), np.float32(1.5))


def test_a_checkpoint_has_no_padding_and_fits_any(tmp_path):
    saved = Saved(tmp_path, WHOLE)
    saved.begin(steps=4)
    assert not saved.exists
    saved.save(training(3, padding=1))
    loaded = saved.load(training(3, padding=5))
    np.testing.assert_array_equal(loaded.state["kernel"], training(3).state["kernel"])
    assert (loaded.done, loaded.seconds) == (2, 1.5)


def test_a_part_goes_on_where_the_whole_was(tmp_path):
    """Cut in two by the first part, and in two again by the second: the third finds itself saved."""
    whole = Saved(tmp_path, WHOLE)
    whole.begin(steps=4)
    whole.save(training(3))
    for index, name in enumerate(WHOLE):
        part = Saved(tmp_path, [name])
        part.adopt(WHOLE, training(1))
        loaded = part.load(training(1))
        assert loaded.state["kernel"].tolist() == [[index, index]]
        np.testing.assert_array_equal(loaded.curves["kl_bits"][0], training(3).curves["kl_bits"][index])
    assert not whole.exists and not whole.path.exists()
    assert sorted(cut_off(tmp_path, WHOLE)) == [["a"], ["b"], ["c"]]
    other = Saved(tmp_path, ["a", "z"])
    other.adopt(["a", "z"], training(2))
    assert not other.exists


def test_checkpoints_of_packs_that_were_swapped_are_nobodys(tmp_path):
    """They have the same shapes, and would go on under each other's names."""
    one, other = Saved(tmp_path, WHOLE), Saved(tmp_path, ["d", "e", "f"])
    for pack in (one, other):
        pack.begin(steps=4)
        pack.save(training(3))
    swap(one.folder, other.folder)
    for pack, owner in ((one, other), (other, one)):
        with pytest.raises(records.Damaged, match=f"{pack.folder}: damaged, it belongs to pack {owner.folder.name}$"):
            pack.load(training(3))
    Saved(tmp_path, WHOLE[:1]).adopt(WHOLE, training(1))
    assert not one.exists and one.folder.with_name(one.folder.name + records.AWAY).exists(), "nor is a part of it taken"


def test_what_is_cut_off_is_found_by_its_studies(tmp_path):
    for ids in (WHOLE, ["d"], ["e", "f"]):
        Saved(tmp_path, ids).begin(steps=4)
    Saved(tmp_path, WHOLE).save(training(3))
    assert cut_off(tmp_path, ["a", "b"]) == [], "a pack goes on as a whole"
    assert cut_off(tmp_path, [*WHOLE, "d"]) == [WHOLE]
    left = [note["studies"] for note in records.notes(tmp_path)]
    assert sorted(left) == [WHOLE, ["e", "f"]], "the note of one that left nothing to go on from is gone"


def test_what_another_version_saved_is_refused_in_one_line_and_kept(tmp_path):
    """The optimiser's memory may have another structure there."""
    checkpoint.save(tmp_path / "x", {"memory": {"mu": np.zeros(3)}})
    with pytest.raises(BadInput, match=r"x: saved by another version of windtunnel; remove it[^\n]*$"):
        checkpoint.load(tmp_path / "x", {"memory": [np.zeros(3), np.zeros(3)]})
    assert checkpoint.exists(tmp_path / "x")


def test_saving_keeps_the_old_until_the_new_is_whole(tmp_path, monkeypatch):
    folder = tmp_path / "pack"
    checkpoint.save(folder, {"x": np.zeros(2)})
    seen = []

    def breaks(new, tree):
        seen.append(checkpoint.exists(folder))
        (new.parent / f"{new.name}.orbax-checkpoint-tmp").mkdir()
        raise ValueError("writing \"x\": Failed to write 2 bytes: No space left on device [os_error_code='28']")

    from orbax.checkpoint import v1

    monkeypatch.setattr(v1, "save_pytree", breaks)
    try:
        checkpoint.save(folder, {"x": np.ones(2)})
    except checkpoint.CannotWrite as error:
        assert str(error).startswith(f"{folder}: cannot be written (No space left on device)")
    assert seen == [True]
    assert [path.name for path in tmp_path.iterdir()] == ["pack"], "and nothing half-written is left"
    assert checkpoint.load(folder, {"x": np.ones(2)})["x"].tolist() == [0, 0]


def test_a_new_checkpoint_that_was_whole_counts(tmp_path):
    """Ended between two renamings: the old one aside, the new one not yet in its place."""
    folder = tmp_path / "pack"
    checkpoint.save(folder, {"x": np.ones(2)})
    folder.rename(tmp_path / ".pack.new")
    (tmp_path / ".pack.old").mkdir()
    assert checkpoint.exists(folder)
    assert checkpoint.load(folder, {"x": np.zeros(2)})["x"].tolist() == [1, 1]
    checkpoint.save(folder, {"x": np.zeros(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


@pytest.mark.parametrize("count", [1_000, 30_000])
def test_a_full_disk_is_noticed_in_one_line(tmp_path, count):
    """For real, by a limit on the size of files: in a process of its own, as what it prints is looked at."""
    code = (
        "import resource, sys; import numpy as np; from pathlib import Path; from windtunnel import checkpoint\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try: checkpoint.save(Path(sys.argv[1]) / 'pack', {'x': np.random.default_rng(0).random(int(sys.argv[2]))})\n"
        "except checkpoint.CannotWrite as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path, str(count)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout.startswith(f"{tmp_path}/pack: cannot be written (File too large)") == (count > 1_000)
    assert [path.name for path in tmp_path.iterdir()] == ([] if count > 1_000 else ["pack"])

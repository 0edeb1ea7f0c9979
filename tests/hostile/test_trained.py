"""Damaged records of studies that were trained: nothing runs on parameters or under a name that is not theirs."""

import json
import shutil

import jax
import pytest

import windtunnel
from tests.composed import TINY, study, tiny
from tests.hostile.damage import copy, swap
from windtunnel import checkpoint, records
from windtunnel.config import Settings, study_id
from windtunnel.errors import StudyFailed
from windtunnel.report.probe import probe
from windtunnel.sweep.folder import fixed_part
from windtunnel.sweep.point import Point
from windtunnel.sweep.run import evaluate, run
from windtunnel.sweep.saved import Saved

# Of all that there is, what compiles soonest.
SMALL = (
    "tunnel=urn model=mlp model.layers=1 model.width=4 model.hidden=4 model.window=2 train.steps=4 train.batch=4 "
    "train.horizon=6 train.optimizer=sgd evaluate.examples=8 evaluate.most_examples=8 evaluate.reach=1"
).split()
POINTS = [Point(study(*SMALL, f"seed={seed}"), {"seed": str(seed)}) for seed in range(5)]
IDS = [point.id for point in POINTS]
FIXED = fixed_part([point.study for point in POINTS])
PAIR = [Point(tiny(f"seed={seed}"), {"seed": str(seed)}) for seed in (0, 1)]  # compiled for other tests already
ONE, OTHER = (point.id for point in PAIR)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two studies, for the fast tests."""
    root = tmp_path_factory.mktemp("pair") / "trial"
    assert run(PAIR, root, Settings(), fixed_part([point.study for point in PAIR]))
    return root


@pytest.fixture
def pair(trained, tmp_path):
    return copy(trained, tmp_path / "trial")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Trained once; what is compiled for it is not compiled again."""
    root, before = tmp_path_factory.mktemp("runs") / "trial", jax.config.jax_compilation_cache_dir
    assert run(POINTS, root, Settings(compilation_cache=str(root.parent / "cache")), FIXED)
    yield root
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def root(whole, tmp_path):
    return copy(whole, tmp_path / "trial")


def states(root):
    return [records.status(root / name) for name in IDS]


@pytest.mark.slow
def test_run_makes_again_what_is_damaged_and_keeps_what_was_there(root, capsys):
    (root / IDS[0] / "study.json").write_text("")
    (root / IDS[1] / "result.json").write_text("{")
    (root / IDS[2] / "curves.npz").unlink()
    (root / IDS[3] / "result.json").unlink()
    spoil(root / IDS[3] / "checkpoint", "cut")
    before = {path: path.stat().st_mtime_ns for path in (root / IDS[4]).rglob("*")}
    assert not run(POINTS, root, Settings(), FIXED), "of one neither verdict nor parameters are left"
    out = capsys.readouterr().out
    assert f"{IDS[0]}: damaged, study.json: nothing in it; made again, and what was there is kept as *.damaged" in out
    assert f"{IDS[3]}: failed, {root / IDS[3] / 'checkpoint'}: damaged, " in out
    assert states(root) == ["done", "done", "done", "failed", "done"]
    assert (root / IDS[0] / "checkpoint.damaged").is_dir() and (root / IDS[0] / "study.json.damaged").exists()
    assert not (root / IDS[1] / "checkpoint.damaged").exists(), "what is whole is judged again, and not trained"
    assert run(POINTS, root, Settings(), FIXED) and states(root) == ["done"] * 5
    assert {path: path.stat().st_mtime_ns for path in (root / IDS[4]).rglob("*")} == before


@pytest.mark.slow
def test_a_pack_whose_checkpoint_is_damaged_starts_again(root, capsys):
    """One line, and not the pages that orbax has to say."""
    shutil.rmtree(root / IDS[0])
    saved = Saved(root, IDS[:1])
    shutil.copytree(root / IDS[1] / "checkpoint", saved.folder)
    for path in saved.folder.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    saved.begin(4)
    assert run(POINTS, root, Settings(), FIXED) and states(root) == ["done"] * 5
    assert "it cannot be read" in (out := capsys.readouterr().out) and "; starts again, and what was there" in out


def spoil(folder, way):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    largest = max(files, key=lambda path: path.stat().st_size)
    if way == "gone":
        shutil.rmtree(folder)
    elif way == "a file":
        shutil.rmtree(folder)
        folder.write_text("")
    elif way == "emptied":
        [path.write_bytes(b"") for path in files]
    elif way == "cut":
        [path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]) for path in files]
    elif way == "flipped":
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 0xFF
        largest.write_bytes(content)
    elif way == "no data":
        [path.unlink() for path in files if path.name != "_CHECKPOINT_METADATA"]
    elif way == "no metadata":
        (folder / "_CHECKPOINT_METADATA").unlink()
    elif way == "bad metadata":
        (folder / "_METADATA").write_text("[1]") if (folder / "_METADATA").exists() else largest.write_text("[1]")


SPOILT = ("gone", "a file", "emptied", "cut", "flipped", "no data", "no metadata", "bad metadata")


@pytest.mark.parametrize("way", SPOILT)
def test_no_parameters_come_out_of_a_damaged_checkpoint(pair, way):
    spoil(pair / ONE / "checkpoint", way)
    with pytest.raises(records.Damaged) as error:
        windtunnel.load(pair / ONE)
    assert "\n" not in str(error.value) and str(pair / ONE) in str(error.value)


def test_parameters_of_another_study_are_not_taken_for_its_own(pair):
    swap(pair / ONE / "checkpoint", pair / OTHER / "checkpoint")
    with pytest.raises(records.Damaged, match="its parameters are not those that were trained here"):
        windtunnel.load(pair / ONE)


def test_a_name_is_a_hash_of_the_study_whoever_seals_it(pair):
    """Somebody edits the width and seals the record again: the folder's name still says otherwise."""
    folder = pair / ONE
    record = records.read_study(folder)
    record["study"]["model"]["hidden"] = 16
    records.write_sealed(folder / "study.json", record)
    assert records.status(folder) == "done", "a table cannot know"
    with pytest.raises(records.Damaged, match=rf"its study is recall-\S+, not {ONE}: it was edited"):
        windtunnel.load(folder)
    record["study"]["model"]["hidden"] = -1
    records.write_sealed(folder / "study.json", record)
    with pytest.raises(records.Damaged, match=r"model\.hidden=-1: should be"):
        windtunnel.load(folder)


@pytest.mark.slow
def test_one_damaged_study_does_not_keep_the_others_from_being_judged_and_probed(root, capsys):
    (root / IDS[0] / "study.json").write_text("null")
    spoil(root / IDS[1] / "checkpoint", "flipped")
    with pytest.raises(StudyFailed):
        evaluate(root, ["tolerance=0.5"])
    said = capsys.readouterr()
    assert f"{IDS[0]}/study.json: damaged" in said.err and f"{IDS[1]}: failed, " in said.out
    judged = [json.loads((root / name / "result.json").read_text())["evaluate"]["tolerance"] for name in IDS]
    assert judged == [judged[0], judged[0], 0.5, 0.5, 0.5] and judged[0] < 0.5
    with pytest.raises(StudyFailed):
        probe(root, ["geometry"])
    said = capsys.readouterr()
    assert f"{IDS[0]}/study.json: damaged, no object but null" in said.out and "and 2 more" in said.out
    assert (root / IDS[2] / "probe.json").exists()


@pytest.mark.slow
def test_records_of_schema_2_are_judged_again_and_not_trained(root, capsys):
    for name in IDS[:2]:
        for path in (root / name / "study.json", root / name / "result.json"):
            record = json.loads(path.read_text())
            kept = {
                key: value for key, value in record.items() if key not in ("seal", "study_id", "curves", "parameters")
            }
            records.write_json(path, {**kept, "schema": 2})
    assert states(root) == ["damaged", "damaged", "done", "done", "done"]
    before = (root / IDS[0] / "checkpoint").stat().st_mtime_ns
    evaluate(root, [])
    assert states(root) == ["done"] * 5 and (root / IDS[0] / "checkpoint").stat().st_mtime_ns == before
    assert records.read_study(root / IDS[0])["facts"]["parameters"] > 0
    assert not list(root.glob("*/*.damaged"))


def test_a_path_that_checkpoints_cannot_be_read_from_is_refused_before_training(tmp_path):
    from windtunnel.errors import BadInput

    with pytest.raises(BadInput, match=r"a checkpoint that is saved there cannot be read back; give a path of letters"):
        run(POINTS[:1], tmp_path / "a=b,c [x]", Settings(), None)
    assert [path.name for path in (tmp_path / "a=b,c [x]").iterdir()] == []
    checkpoint.check(tmp_path / "ä")


def test_sizes_that_are_refused_are_never_larger_than_what_a_model_has():
    from windtunnel.sweep.estimate import least
    from windtunnel.train import start

    for model in ("transformer", "gru", "lstm", "ssm", "mlp", "looped"):
        sized = tiny() if model == "transformer" else _of(model)
        weights = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(start, sized).params))
        assert 0 < sized.model.weights <= weights
        assert all(size >= 0 for size in least(sized).values())


def _of(model):
    return study(*[word for word in TINY if not word.startswith("model.")], f"model={model}")


def test_a_study_keeps_its_name():
    assert study_id(PAIR[0].study) == ONE

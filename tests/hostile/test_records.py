"""Damaged records: one of them costs a row, and never changes a number. From made-up records, in this process."""

import csv
import json

import pytest

from tests import commanded
from tests.hostile.damage import WAYS, copy, swap, without
from tests.report.made import curved, kl, sweep
from windtunnel import records

BAM, ROPE = "positionbam-seed0", "positionrope-seed0"
NOTE = {"studies": ["a"], "what": "training", "step": 1, "steps": 9, "saved": 1, "steady_seconds": 1.0,
        "compilations": 1, "compile_seconds": 1.0, "host": "h", "process": 1}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "trial"
    root = curved(sweep(folder, {"bam": kl(0.001, 0.002), "rope": kl(0.1, 0.2)}))
    records.write_json(root / "packs/p.json", NOTE)
    return root


@pytest.fixture
def root(whole, tmp_path):
    return copy(whole, tmp_path / "trial")


def table(root, *flags):
    return commanded.windtunnel(root.parent, "table", root.name, *flags)


def states(root):
    return {row["study_id"]: row["status"] for row in records.rows(root)}


@pytest.mark.parametrize("name", ["study.json", "result.json", "curves.npz"])
@pytest.mark.parametrize("way", WAYS)
def test_one_damaged_file_costs_one_row(root, name, way):
    """And names it, in a table, in status and in `results.csv`; what is whole is shown as before."""
    before = [row for row in records.rows(root) if row["study_id"] != BAM]
    WAYS[way](root / BAM / name)
    if (name, way) == ("result.json", "gone"):  # nothing says that it was there
        assert states(root)[BAM] == "waiting"
        return
    code, out, err = table(root)
    assert code == 1 and "rope" in out and "1 of 2" in out and "1 damaged" in out
    assert err.count("\n") == 1 and err.startswith(f"windtunnel: {BAM}: damaged, {name}: "), err
    assert [row for row in records.rows(root) if row["study_id"] != BAM] == before
    code, out, err = commanded.windtunnel(root.parent, "status", root.name)
    assert (code, err) == (0, "") and "4 studies: 3 done, 1 damaged" in out and f"{name}: " in out
    with open(records.write_results(root)) as file:
        rows = {row["study_id"]: row for row in csv.DictReader(file)}
    assert (rows[BAM]["status"], rows[BAM]["kl_bits"]) == ("damaged", "") and rows[ROPE]["status"] == "done"


@pytest.mark.parametrize("keys", [("study.json", "overrides"), ("study.json", "facts"), ("result.json", "evaluate"),
    ("result.json", "censored"), ("result.json", "verdict"), ("result.json", "baselines"), ("study.json", "study"),
    ("result.json", "extrapolation_ratio"), ("result.json", "evaluate", "tolerance")])  # fmt: skip
def test_a_key_that_is_missing_is_named(root, keys):
    without(root / BAM / keys[0], *keys[1:])
    code, _, err = table(root)
    assert code == 1 and f"{keys[0]}: {'.'.join(keys[1:])} is missing" in err


@pytest.mark.parametrize("name", ["study.json", "result.json"])
def test_files_that_were_swapped_change_no_number(root, name):
    swap(root / BAM / name, root / ROPE / name)
    assert [state for state in states(root).values()].count("damaged") == 2
    code, _, err = table(root)
    assert code == 1 and f"{name}: it belongs to {ROPE}, not to {BAM}" in err


def test_curves_that_were_swapped_are_not_drawn(root):
    swap(root / BAM / "curves.npz", root / ROPE / "curves.npz")
    assert "curves.npz: not the curves that its result.json was made of" in table(root)[2]


@pytest.mark.parametrize(("name", "keys"), [("study.json", ("study", "train", "steps")), ("result.json", ("kl_bits",)),
    ("study.json", ("overrides", "position"))])  # fmt: skip
def test_what_was_edited_is_not_believed(root, name, keys):
    path = root / BAM / name
    record = json.loads(path.read_text())
    inner = record
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = "rope" if keys[-1] == "position" else 1
    path.write_text(json.dumps(record))
    assert f"{name}: its seal is broken" in table(root)[2]


def test_a_number_that_no_float_holds_is_no_number(root):
    record = records.read_result(root / BAM)
    records.write_sealed(root / BAM / "result.json", {**record, "critical_length": 10**400})
    assert "result.json: no JSON: a number of 401 digits" in table(root)[2]


def test_all_damaged_is_one_line(root):
    for folder in records.studies(root):
        (folder / "study.json").write_text("null")
    code, out, err = table(root)
    assert (code, out) == (2, "") and err == (
        f"windtunnel: {BAM} and 3 more: damaged, study.json: no object but null\n"
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["sweep.json", "packs/p.json"])
def test_what_a_sweep_says_of_itself_is_not_needed(root, name, way):
    WAYS[way](root / name)
    code, out, err = table(root)
    assert (code, err) == (0, "") and out.count("extrapolates") >= 2
    code, out, err = commanded.windtunnel(root.parent, "status", root.name)
    assert (code, err) == (0, "") and "4 studies: 4 done" in out
    assert way in ("gone", "folder") or f"damaged, {name}: " in out, out


def test_sweep_json_without_the_points(root):
    for keys in (("points", 0, "study_id"), ("points",)):
        without(root / "sweep.json", *keys)
        assert table(root)[0] == 0


def test_a_report_leaves_out_what_it_cannot_read(root):
    pytest.importorskip("matplotlib")
    WAYS["cut off"](root / BAM / "train.jsonl")
    WAYS["empty"](root / BAM / "example.npz")
    WAYS["folder"](root / "positionbam-seed1/train.jsonl")
    records.write(root / ROPE / "probe.json", "[]")
    (root / "positionrope-seed1/study.json").write_text("")
    code, out, err = commanded.windtunnel(root.parent, "report", root.name)
    page = (root / "report.html").read_text()
    assert code == 1 and "report in " in out and err.startswith("windtunnel: positionrope-seed1: damaged, study.json: ")
    assert "positionrope-seed1 is damaged: study.json: nothing in it" in page
    for path in (f"{BAM}/train.jsonl", f"{BAM}/example.npz", f"{ROPE}/probe.json"):
        assert f"{path}: damaged, " in page


def test_an_error_that_cannot_be_read_is_still_an_error(root):
    for name, content, said in (
        ("empty", b"", "no reason given"),
        ("odd", b"\xff", "cannot be read"),
        ("fine", b"x", "x"),
    ):
        folder = root / BAM
        (folder / "result.json").unlink(missing_ok=True)
        (folder / "error.txt").write_bytes(content)
        out = commanded.windtunnel(root.parent, "status", root.name).out
        assert "1 failed" in out and said in out, name


def test_a_folder_of_sweeps_shows_its_sweeps(root):
    code, out, _ = commanded.windtunnel(root.parents[1], "table", root.parent.name)
    assert code == 0 and "trial" in out and "done" in out


def test_two_groups_are_checked_before_anything_is_printed(root):
    code, out, err = table(root, "--compare", "rope,nosuch")
    assert (code, out) == (2, "") and "nosuch: no such group; valid: bam, rope" in err


NASTY = 'x"><script>alert(1)</script>'


def test_what_a_record_says_is_text_everywhere(tmp_path):
    """In the report, in Markdown, LaTeX and CSV, and on the screen."""
    pytest.importorskip("matplotlib")
    values = {NASTY: kl(0.1), "=1+1": kl(0.2), "[/x]": kl(0.3), r"$\bad$": kl(0.4), "-0.5": kl(0.5), "*a|b*": kl(0.6)}
    root = tmp_path / "trial"
    points = []
    from tests.report.made import study

    for number, (value, (result,)) in enumerate(values.items()):
        name = study(root, {"n": str(number)}, result)
        folder = root / name
        records.write_sealed(folder / "study.json", {**records.read_study(folder), "overrides": {"title": value}})
        points.append({"study_id": name, "overrides": {"title": value}})
    records.write_json(root / "sweep.json", {"points": points, "fixed": {}})
    curved(root)
    assert commanded.windtunnel(tmp_path, "report", "trial").code == 0
    page = (root / "report.html").read_text()
    assert "<script" not in page and page.count("&lt;script&gt;") > 3
    code, out, err = table(root, "--format", "md")
    assert code == 0 and "<script" not in out and r"\*a&#124;b\*" in out and r"\[/x\]" in out, err
    code, out, err = table(root, "--format", "latex")
    assert code == 0 and "{[}/x]" in out and r"\textless{}script\textgreater{}" in out, err
    code, out, err = table(root, "--format", "csv")
    assert code == 0 and "\n'=1+1," in out and "\n-0.5," in out, err
    text = records.write_results(root).read_text()
    assert ",'=1+1" in text and ",-0.5" in text
    for command in ("status", "table"):
        code, out, err = commanded.windtunnel(tmp_path, command, "trial")
        assert code == 0 and "[/x]" in out and "=1+1" in out, err

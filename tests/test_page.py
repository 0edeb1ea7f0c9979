"""Pages that scripts fill keep what was measured where its records are gone."""

import importlib.util
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("page", Path(__file__).parents[1] / "scripts/page.py")
assert SPEC and SPEC.loader
page = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(page)


def test_a_measured_row_stays_until_it_is_measured_again(tmp_path: Path) -> None:
    path, head = tmp_path / "page.md", ["row", "bits"]
    path.write_text("before\n<!-- rows -->\n<!-- end -->\nafter\n")
    page.fill(path, "rows", page.table(head, [["a", "1"], ["b", "2"], ["c", "not run"]]))
    page.fill(path, "rows", page.table(head, [["a", "not run"], ["b", "3"], ["c", "not run"], ["ab", "not run"]]))
    expected = page.table(head, [["a", "1"], ["b", "3"], ["c", "not run"], ["ab", "not run"]])
    assert path.read_text() == f"before\n<!-- rows -->\n{expected}\n<!-- end -->\nafter\n"
    page.fill(path, "rows", "Not run.")
    assert expected in path.read_text()
    with pytest.raises(ValueError, match="no place marked"):
        page.fill(path, "others", "")

"""Pages that scripts fill keep what was measured where its records are gone."""

import importlib.util
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("page", Path(__file__).parents[1] / "scripts/page.py")
assert SPEC and SPEC.loader
page = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(page)


NOT_RUN = [page.NOT_RUN, ""]


def test_a_measured_row_stays_until_it_is_measured_again(tmp_path: Path) -> None:
    path, head = tmp_path / "page.md", ["row", "seeds", "bits"]
    path.write_text("before\n<!-- rows -->\n<!-- end -->\nafter\n")
    first = [["a", "once", "1"], ["a", "always", "2"], ["b", "5", "3"], ["c", *NOT_RUN]]
    page.fill(path, "rows", page.table(head, first))
    page.fill(path, "rows", page.table(head, [["a", *NOT_RUN], ["b", "5", "4"], ["c", *NOT_RUN], ["ab", *NOT_RUN]]))
    expected = page.table(head, [*first[:2], ["b", "5", "4"], ["c", *NOT_RUN], ["ab", *NOT_RUN]])
    assert path.read_text() == f"before\n<!-- rows -->\n{expected}\n<!-- end -->\nafter\n"


def test_a_row_is_known_by_its_cells_that_say_something() -> None:
    old = page.table(["of", "width", "form", "bits"], [["d", "16", "soft", "1"], ["d", "8", "soft", "2"]])
    new = page.table(["of", "width", "form", "bits"], [["d", "16", "", "not run"], ["d", "8", "soft", "3"]])
    assert page.measured(old, new) == old.replace("| 2 |", "| 3 |")


@pytest.mark.parametrize("new", ["Not run.", "Not run.\n\n" + page.table(["row", "bits"], [["a", "not run"]])])
def test_where_nothing_was_measured_the_old_text_stays(new: str) -> None:
    old = "Exact: 0.9.\n\n" + page.table(["row", "bits"], [["a", "1"]])
    assert page.measured(old, new) == old
    assert page.measured("", new) == new


def test_a_page_without_the_mark_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("nothing\n")
    with pytest.raises(ValueError, match="no place marked"):
        page.fill(tmp_path / "page.md", "others", "")


def test_variants_of_a_row_stay_and_rows_of_their_own_do_not_double():
    old = page.table(["of", "a"], [["router, λ = 0", "1"], ["router, shuffled", "2"]])
    new = page.table(["of", "a", "b"], [["router", page.NOT_RUN, ""], ["router, shuffled", "3", "4"]])
    assert page.measured(old, new).splitlines()[2:] == ["| router, λ = 0 | 1 |", "| router, shuffled | 3 | 4 |"]


def test_a_row_with_one_cell_that_waits_for_a_machine_is_measured_again() -> None:
    old, new = (page.table(["row", "bits", "at size"], [["a", bits, "GPU: not run"]]) for bits in ("1", "2"))
    assert page.measured(old, new) == new

"""Pages that scripts fill: the text between `<!-- name -->` and the next `<!-- end -->` is generated from records.

What was measured stays until it is measured again: where the records of a row are gone (a fresh clone has none), the
page keeps the row that it has.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from windtunnel import records

NOT_RUN = "not run"
BLANK = f"| {NOT_RUN} |"  # a cell that says this alone: its row was not measured


def fill(page: Path, name: str, text: str) -> None:
    """Replace the text between the marks of this name."""
    filled, count = re.subn(
        rf"(<!-- {name} -->\n)(.*?)\n?(<!-- end -->)",
        lambda m: f"{m[1]}{measured(m[2], text)}\n{m[3]}",
        page.read_text(),
        flags=re.S,
    )
    if not count:
        raise ValueError(f"{page}: has no place marked <!-- {name} -->")
    records.write(page, filled)


def measured(old: str, new: str) -> str:
    """The new text, with the old rows in place of each that is `not run`; a row is known by the cells before these
    words, and so are its variants (`router, λ = 0` where `router` is not run). The old text as a whole, where nothing
    of the new one was measured.
    """
    lines = new.splitlines()
    rows = [line for line in lines if line.startswith("|")]
    heads = 2 * sum(row.startswith("| ---") for row in rows)
    blank = sum(BLANK in row for row in rows)
    if old and (blank or "Not run." in new) and len(rows) == heads + blank:
        return old
    kept, firsts = [], {first(row) for row in rows}
    for line in lines:
        key, found, _ = line.partition(BLANK)
        known = key.rstrip("| ")
        variants = [was for was in old.splitlines() if was.startswith(f"{known}, ") and first(was) not in firsts]
        same = [was for was in old.splitlines() if was.startswith(f"{known} |")]
        kept += (found and [was for was in same + variants if BLANK not in was]) or [line]
    return "\n".join(kept)


def first(row: str) -> str:
    """The first cell."""
    return row.split("|")[1].strip()


def not_run(cells: int) -> list[str]:
    """The rest of a row that was not measured: as many cells, of which the first says so."""
    return [NOT_RUN, *[""] * (cells - 1)]


def table(head: Sequence[str], lines: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A Markdown table; the columns with the indices `numbers` are aligned to the right."""
    right = set(numbers)
    marks = ["---:" if index in right else "---" for index in range(len(head))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, marks, *lines])

"""Pages that scripts fill: the text between `<!-- name -->` and the next `<!-- end -->` is generated from records.

What was measured stays until it is measured again: where the records of a row are gone (a fresh clone has none), the
page keeps the row that it has.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from windtunnel import records

NOT_RUN = "not run"


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
    """The new text, but each of its lines that says `not run` as the old text has it, where that was measured. A line
    is known by what stands before `not run`; a text that is nothing else leaves the old one as it is.
    """
    if new.strip(" .\n").lower() == NOT_RUN:
        return old or new
    lines = new.splitlines()
    for index, line in enumerate(lines):
        key, found, _ = line.partition(f"| {NOT_RUN}")
        if found:
            known = [was for was in old.splitlines() if was.startswith(key) and NOT_RUN not in was]
            lines[index] = known[0] if known and known[0].count("|") == line.count("|") else line
    return "\n".join(lines)


def table(head: Sequence[str], lines: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A Markdown table; the columns with the indices `numbers` are aligned to the right."""
    right = set(numbers)
    marks = ["---:" if index in right else "---" for index in range(len(head))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, marks, *lines])

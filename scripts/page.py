"""Pages that scripts fill: the text between `<!-- name -->` and the next `<!-- end -->` is generated from records."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from windtunnel import records


def fill(page: Path, name: str, text: str) -> None:
    """Replace the text between the marks of this name."""
    filled, count = re.subn(
        rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{text}\n{m[2]}", page.read_text(), flags=re.S
    )
    if not count:
        raise ValueError(f"{page}: has no place marked <!-- {name} -->")
    records.write(page, filled)


def table(head: Sequence[str], lines: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A Markdown table; the columns with the indices `numbers` are aligned to the right."""
    right = set(numbers)
    marks = ["---:" if index in right else "---" for index in range(len(head))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, marks, *lines])

"""Pages that scripts fill: what stands between `<!-- name -->` and the next `<!-- end -->` is made from records."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from windtunnel import records


def fill(page: Path, name: str, text: str) -> None:
    """Put a text between the marks of this name; what is there in its place goes."""
    made, found = re.subn(
        rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{text}\n{m[2]}", page.read_text(), flags=re.S
    )
    if not found:
        raise ValueError(f"{page}: has no place marked <!-- {name} -->")
    records.write(page, made)


def table(head: Sequence[str], lines: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """In Markdown; the columns of these indices are numbers, and stand at the right."""
    right = set(numbers)
    marks = ["---:" if index in right else "---" for index in range(len(head))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, marks, *lines])

"""What README and docs tell people to type."""

import re
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent.parent
PAGES = [HERE / "README.md", *sorted((HERE / "docs").glob("*.md"))]


class Command(NamedTuple):
    page: str
    text: str
    comment: str

    @property
    def long(self) -> bool:
        """Whether it says that it takes its time; nothing else may."""
        return bool(re.search(r"\b(minutes?|hours?|days?)\b", self.comment))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.S | re.M)


def commands(page: Path) -> list[Command]:
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    parts = [line.partition(" #") for line in lines if line.strip() and not line.startswith("#")]
    return [
        Command(page.name, part.strip().removesuffix(" &"), comment.strip())
        for text, _, comment in parts
        for part in text.split("&&")
    ]


def files(page: Path) -> dict[str, str]:
    """{path: content} of the blocks that follow a line with nothing but a path."""
    files = re.findall(r"^`([\w/.-]+)`:\n\n```\w+\n(.*?)^```", page.read_text(), re.S | re.M)
    return dict(files)


def write(page: Path, folder: Path) -> None:
    for path, content in files(page).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)

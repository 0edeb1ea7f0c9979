"""`make figures`: put the main sweep's table and figure, as its records have them, into the README."""

import re
from pathlib import Path

from windtunnel import records
from windtunnel.report.figures import kl_against_length
from windtunnel.report.groups import answer
from windtunnel.report.tables import summary

ROOT, README, FIGURE = Path("runs/extrapolation"), Path("README.md"), Path("docs/extrapolation.svg")


def main() -> None:
    table, groups = summary(ROOT)
    columns = [list(column.cells) for column in table.columns]
    head = [str(column.header) for column in table.columns]
    lines = [head, ["---"] * len(head), *map(list, zip(*columns, strict=True))]
    text = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
    records.write(FIGURE, kl_against_length(ROOT).with_suffix(".svg").read_bytes())
    block = f"{text}\n\n> {answer(groups)}\n"
    readme = re.sub(
        r"(<!-- table -->\n).*?(<!-- end -->)", lambda m: m[1] + block + m[2], README.read_text(), flags=re.S
    )
    records.write(README, readme)


if __name__ == "__main__":
    main()

"""`make figures`: write the main sweep's table and figure, from its records, into the README."""

from pathlib import Path

from page import fill
from windtunnel import records
from windtunnel.records.groups import gather, swept_keys
from windtunnel.report.answer import answer
from windtunnel.report.figures import kl_against_length
from windtunnel.report.formats import markdown
from windtunnel.report.grid import grid

ROOT, README, FIGURE = Path("runs/extrapolation"), Path("README.md"), Path("docs/extrapolation.svg")


def main() -> None:
    groups = gather([ROOT])
    table = markdown(grid(str(ROOT), groups, swept_keys(ROOT)))
    records.write(FIGURE, kl_against_length(ROOT).with_suffix(".svg").read_bytes())
    fill(README, "table", f"{table}\n\n> {answer(groups)}")


if __name__ == "__main__":
    main()

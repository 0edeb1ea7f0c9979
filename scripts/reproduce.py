"""`make reproduce`: run the sweeps that test published results, and write the comparison into docs/reproduction.md.

`--paper` runs the same sweeps at the published sizes, for a GPU. Finished studies are not run again; interrupted ones
are resumed; those that are named (`make reproduce ROW=reach`) are run alone. Exit code 1 if a study failed.
"""

import math
import shlex
import subprocess
import sys
from pathlib import Path

from page import fill, table
from reproduction.published import Published, Rows, Study
from reproduction.studies import STUDIES
from stages import asked
from windtunnel import records
from windtunnel.records.statistics import Interval
from windtunnel.report.numbers import number, with_interval

DOC, RUNS, PAPER = Path("docs/reproduction.md"), Path("runs"), Path("runs/paper")
SUPERVISIONS = ("posterior", "sample")
HEAD = ["claim", "published", "trivial", "on the posterior", "on samples", "claimed", "published size", "verdict"]


def command(study: Study, paper: bool) -> list[str]:
    return ["windtunnel", "run", f"+sweep={study.sweep}", *([*study.paper, f"runs={PAPER}"] if paper else [])]


def finished(root: Path) -> list[Rows]:
    """The finished studies of a sweep, for each supervision."""
    rows = records.rows(root) if (root / "sweep.json").exists() else []
    done = [row for row in rows if row["status"] == "done"]
    return [[row for row in done if row["supervision"] == name] for name in SUPERVISIONS]


def measured(published: Published, root: Path, rows: list[Rows]) -> list[Interval | None]:
    return [published.measure(root, supervised) if supervised else None for supervised in rows]


def line(
    published: Published, here: list[Interval | None], at_size: list[Interval | None], trivial: float | None
) -> list[str]:
    intervals, sizes = (
        ["–" if of is None else with_interval(of) for of in intervals_of] for intervals_of in (here, at_size)
    )
    return [
        published.what,
        published.value or "–",
        number(trivial) or "–",
        *intervals,
        published.sign,
        "; ".join(sizes) if any(at_size) else "GPU: not run",
        published.verdict(here[0], here[1], trivial),
    ]


def block(study: Study) -> str:
    small, large = RUNS / study.sweep, PAPER / study.sweep
    rows, at_size = finished(small), finished(large)
    every = [row for supervised in rows for row in supervised]
    seconds = math.fsum(row["train_seconds"] + row["compile_seconds"] for row in every)
    lines = [
        line(
            published,
            measured(published, small, rows),
            measured(published, large, at_size),
            published.trivial_of(every),
        )
        for published in study.results
    ]
    return "\n".join([
        f"{study.quantity}.",
        "",
        table(HEAD, lines, range(2, 6)),
        "",
        f"`{shlex.join(command(study, False))}`: {len(every)} studies, {seconds / 60:.1f} minutes of training and "
        f"compiling. At the published size: `{shlex.join(command(study, True))}`.",
        *(["", study.more(small, every)] if study.more else []),
    ])  # fmt: skip


def main() -> None:
    paper, failed = "--paper" in sys.argv, False
    wanted = asked([word for word in sys.argv[1:] if word != "--paper"], [study.name for study in STUDIES])
    for study in STUDIES:
        if study.name not in wanted:
            continue
        _, *words = command(study, paper)
        code = subprocess.run([sys.executable, "-m", "windtunnel.cli", *words]).returncode
        if code not in (0, 1):
            raise SystemExit(f"{study.sweep} was refused or cut off; the same command goes on with it")
        failed |= code == 1
        fill(DOC, study.name, block(study))
    raise SystemExit(failed)


if __name__ == "__main__":
    main()

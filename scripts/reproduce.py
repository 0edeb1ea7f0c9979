"""`make reproduce`: run what tests the published claims, and put it beside them into docs/reproduction.md.

`--paper` runs the same sweeps at the published sizes, for a GPU. What is done already is not run again; what was cut
off goes on. Exit code 1 where a study failed.
"""

import math
import shlex
import subprocess
import sys
from pathlib import Path

from page import fill, table
from reproduction.claim import Claim, Rows, Study
from reproduction.claims import STUDIES
from windtunnel import records
from windtunnel.records.statistics import Interval
from windtunnel.report.numbers import number, with_interval

DOC, RUNS, PAPER = Path("docs/reproduction.md"), Path("runs"), Path("runs/paper")
SUPERVISIONS = ("posterior", "sample")
HEAD = ["claim", "published", "trivial", "on the posterior", "on samples", "claimed", "published size", "verdict"]


def command(study: Study, paper: bool) -> list[str]:
    return ["windtunnel", "run", f"+sweep={study.sweep}", *([*study.paper, f"runs={PAPER}"] if paper else [])]


def finished(root: Path) -> list[Rows]:
    """What is done of a sweep, under each supervision."""
    rows = records.rows(root) if (root / "sweep.json").exists() else []
    done = [row for row in rows if row["status"] == "done"]
    return [[row for row in done if row["supervision"] == name] for name in SUPERVISIONS]


def measured(claim: Claim, root: Path, rows: list[Rows]) -> list[Interval | None]:
    return [claim.measure(root, those) if those else None for those in rows]


def line(claim: Claim, here: list[Interval | None], at_size: list[Interval | None], trivial: float | None) -> list[str]:
    intervals, sizes = (["–" if of is None else with_interval(of) for of in found] for found in (here, at_size))
    return [
        claim.what,
        claim.published or "–",
        number(trivial) or "–",
        *intervals,
        claim.sign,
        "; ".join(sizes) if any(at_size) else "GPU: not run",
        claim.verdict(here[0], here[1], trivial),
    ]


def block(study: Study) -> str:
    small, large = RUNS / study.sweep, PAPER / study.sweep
    rows, at_size = finished(small), finished(large)
    every = [row for those in rows for row in those]
    seconds = math.fsum(row["train_seconds"] + row["compile_seconds"] for row in every)
    lines = [
        line(claim, measured(claim, small, rows), measured(claim, large, at_size), claim.trivial_of(every))
        for claim in study.claims
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
    for study in STUDIES:
        _, *words = command(study, paper)
        code = subprocess.run([sys.executable, "-m", "windtunnel.cli", *words]).returncode
        if code not in (0, 1):
            raise SystemExit(f"{study.sweep} was refused or cut off; the same command goes on with it")
        failed |= code == 1
        fill(DOC, study.name, block(study))
    raise SystemExit(failed)


if __name__ == "__main__":
    main()

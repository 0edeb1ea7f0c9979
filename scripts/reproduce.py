"""`make reproduce`: run what tests the published claims, and put it beside them into docs/reproduction.md.

`--paper` runs the same sweeps at the published sizes, for a GPU. What is done already is not run again; what was cut
off goes on.
"""

import math
import shlex
import subprocess
import sys
from pathlib import Path

from page import fill
from reproduction.claim import Claim, Study
from reproduction.claims import STUDIES
from windtunnel import records
from windtunnel.report.numbers import number, shown

DOC, RUNS, PAPER = Path("docs/reproduction.md"), Path("runs"), Path("runs/paper")
HEAD = ["claim", "published", "trivial", "on the posterior", "on samples", "claimed", "published size", "verdict"]


def command(study: Study, paper: bool) -> list[str]:
    return ["windtunnel", "run", f"+sweep={study.sweep}", *([*study.paper, f"runs={PAPER}"] if paper else [])]


def finished(root: Path, supervision: str) -> list[records.Json]:
    if not (root / "sweep.json").exists():
        return []
    done = (row for row in records.rows(root) if row["status"] == "done")
    return [row for row in done if row["supervision"] == supervision]


def line(claim: Claim, study: Study) -> list[str]:
    small, large = RUNS / study.sweep, PAPER / study.sweep
    rows = {supervision: finished(small, supervision) for supervision in ("posterior", "sample")}
    posterior, sample = (claim.measure(small, those) if those else None for those in rows.values())
    trivial = claim.trivial_of(rows["posterior"][0]) if rows["posterior"] else None
    at_size = [claim.measure(large, those) for name in rows if (those := finished(large, name))]
    sizes = "; ".join("–" if of is None else shown(of) for of in at_size) or "GPU: not run"
    return [
        claim.what,
        claim.published or "–",
        number(trivial) or "–",
        *("–" if of is None else shown(of) for of in (posterior, sample)),
        claim.sign,
        sizes,
        claim.verdict(posterior, sample, trivial),
    ]


def block(study: Study) -> str:
    root = RUNS / study.sweep
    rows = [row for name in ("posterior", "sample") for row in finished(root, name)]
    seconds = math.fsum(row["train_seconds"] + row["compile_seconds"] for row in rows)
    lines = [HEAD, ["---", "---", *["---:"] * 4, "---", "---"], *(line(claim, study) for claim in study.claims)]
    return "\n".join([
        f"{study.quantity}.",
        "",
        *("| " + " | ".join(cells) + " |" for cells in lines),
        "",
        f"`{shlex.join(command(study, False))}`: {len(rows)} studies, {seconds / 60:.1f} minutes of training and "
        f"compiling. At the published size: `{shlex.join(command(study, True))}`.",
        *(["", study.more(root, rows)] if study.more else []),
    ])  # fmt: skip


def main() -> None:
    paper = "--paper" in sys.argv
    names = [word for word in sys.argv[1:] if word != "--paper"] or [study.name for study in STUDIES]
    for study in STUDIES:
        if study.name not in names:
            continue
        _, *words = command(study, paper)
        if subprocess.run([sys.executable, "-m", "windtunnel.cli", *words]).returncode not in (0, 1):
            raise SystemExit(f"{study.sweep} was refused or cut off; the same command goes on with it")
        fill(DOC, study.name, block(study))


if __name__ == "__main__":
    main()

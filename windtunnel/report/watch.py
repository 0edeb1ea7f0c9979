"""`windtunnel status DIR --watch`: a running sweep as it goes, with what its monitors say."""

import time
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live

from windtunnel.progress import console
from windtunnel.records import Damaged
from windtunnel.records.health import read_health
from windtunnel.report import status
from windtunnel.report.numbers import number

SECONDS = 2.0  # between two looks
QUIET = 30.0  # seconds without a study that runs, after which nobody is waited for: between packs there are some
LATEST = 8  # events that are shown


def watch(root: Path, seconds: float = SECONDS, quiet: float = QUIET) -> None:
    """Until nothing is left to do, or nothing has run for a while. In a pipe, a line for every event and change."""
    out, told, last = console(), list[str](), ""
    moved = time.monotonic()
    with Live(console=out, auto_refresh=False, transient=True) as live:
        while True:
            studies = status.standings(root)
            counts, news = status.counts(studies), events([root / study.study_id for study in studies])
            if out.is_terminal:
                live.update(drawn(root, studies, news[-LATEST:]), refresh=True)
            else:
                for line in [*news[len(told) :], *([counts] if counts != last else [])]:
                    out.print(line, markup=False)
            told, last = news, counts
            if any(study.state in ("running", "queued") for study in studies):
                moved = time.monotonic()
            left = [study for study in studies if study.state in ("running", "queued", "waiting", "cut off")]
            if not left or time.monotonic() - moved > quiet:
                break
            time.sleep(seconds)
    if out.is_terminal:
        out.print(drawn(root, status.standings(root), news[-LATEST:]))


def drawn(root: Path, studies: list[status.Standing], news: list[str]) -> RenderableType:
    return Group(f"{root}: {status.counts(studies)}", status.table(studies), *news)


def events(folders: list[Path]) -> list[str]:
    """`recall-seed0 · step 300 · alarm: kl_bits 0.3`: what happened in these studies, by step."""
    lines = []
    for folder in folders:
        try:
            rows = read_health(folder)
        except Damaged:
            continue
        lines += [(row["step"], folder.name, event_in_words(event)) for row in rows for event in row["events"]]
    return [f"{name} · step {step} · {what}" for step, name, what in sorted(lines, key=lambda line: line[:2])]


def event_in_words(event: dict[str, object]) -> str:
    """`alarm: orthogonality 0.2`, `fault: rank_one`, `recovery: …`"""
    more = event.get("monitor") or event.get("fault") or event.get("recovery") or event.get("why") or ""
    value = event.get("value")
    return f"{event['what']}: {more}" + (f" {number(value)}" if isinstance(value, float) else "")

"""The progress of a running sweep: a bar in a terminal, plain lines in a pipe."""

import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 240  # columns; in a pipe, rich would assume 80 and truncate tables
SECONDS = 10.0  # between plain lines
KNOWN = 5.0  # seconds of steps after which it is known how long the rest takes
MOST_PACKS = 8  # the most packs with a line of their own
FEW = 5  # the most studies whose KL is shown one by one


class Plain(Console):
    """A console that reads no markup: what it prints may come from anybody's records."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # `cli.main` ends all commands alike


def console(**options: Any) -> Console:
    """The console of every command: as wide as the terminal, wide enough for any table in a pipe."""
    if not sys.stdout.isatty():
        options.setdefault("width", PIPED_WIDTH)
    return Plain(soft_wrap=not sys.stdout.isatty(), highlight=False, markup=False, emoji=False, **options)


class Display:
    """Progress over all steps of all studies of a sweep: one bar, and for each of the last packs a line with the
    current KL of its studies. In a pipe, one plain line every `SECONDS`.
    """

    def __init__(self, total: int, packs: int):
        self.console = console()
        self.total, self.packs, self.done, self.last_line = total, packs, 0, 0.0
        self.lines: dict[int, tuple[str, str]] = {}
        self.live: Live | None = None
        if self.console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("steps{task.fields[left]}"),
                console=self.console,
                expand=True,
            )
            self.task = self.bar.add_task("", total=total, left="")
            self.live = Live(get_renderable=self._drawn, console=self.console, transient=True, refresh_per_second=4)
        self.first: tuple[float, int] | None = None  # when the first steps were done, and how many these were

    def __enter__(self) -> "Display":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.leave()

    def leave(self) -> None:
        """Restore the terminal, for a process that is about to end."""
        if self.live:
            self.live.stop()

    def say(self, line: str) -> None:
        self.console.print(line, markup=False)

    def show(self, pack: int, what: str, steps: int, kl_bits: float | Sequence[float] | None = None) -> None:
        """Add `steps` finished model-steps. `what` describes the pack's activity, `kl_bits` is the KL of its
        studies.
        """
        now = time.monotonic()
        self.done += steps
        if self.first is None and steps:
            self.first = now, self.done
        kl = self.lines.get(pack, ("", ""))[1] if kl_bits is None else spread(kl_bits)
        self.lines[pack] = what, kl
        if self.live:
            text = f"pack {pack} of {self.packs}"
            self.bar.update(self.task, completed=self.done, description=text, left=self._left(now))
        elif now - self.last_line >= SECONDS:
            self.last_line = now
            line = f"pack {pack}/{self.packs} · {what}" + (f" · KL {kl} bits" if kl else "")
            self.say(f"{self.done}/{self.total} steps · {line}{self._left(now)}")

    def _left(self, now: float) -> str:
        """` · 35 s left`, at the rate since the first steps; nothing until that is a rate of some seconds."""
        if self.first is None or now - self.first[0] < KNOWN or self.done == self.first[1]:
            return ""
        began, before = self.first
        return f" · {(now - began) * (self.total - self.done) / (self.done - before):.0f} s left"

    def _drawn(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right", style="dim")
        table.add_column(overflow="ellipsis", no_wrap=True)
        table.add_column(overflow="ellipsis", no_wrap=True, style="cyan")
        for pack, (what, kl) in sorted(self.lines.items())[-MOST_PACKS:]:
            table.add_row(f"{pack}", Text(what), f"KL {kl} bits" if kl else "")
        return Group(table, self.bar)


def spread(kl_bits: float | Sequence[float]) -> str:
    """`0.031 0.030 0.033`, study by study; of more than a few, `0.03 (0.01 to 0.2)`: the median and the extremes."""
    values = [kl_bits] if isinstance(kl_bits, float) else list(kl_bits)
    if len(values) <= FEW:
        return " ".join(f"{value:.2g}" for value in values)
    finite = sorted(value for value in values if value == value)  # NaN cannot be sorted
    broken = f", {len(values) - len(finite)} broken" if len(finite) < len(values) else ""
    return f"{finite[len(finite) // 2]:.2g} ({finite[0]:.2g} to {finite[-1]:.2g}{broken})" if finite else "nan"

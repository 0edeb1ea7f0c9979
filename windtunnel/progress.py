"""What is shown while a sweep runs: a bar in a terminal, plain lines in a pipe."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PIPED_WIDTH = 240  # rich falls back to 80 columns in a pipe and cuts tables off; a pipe has no edge
SECONDS = 10.0  # between plain lines


def console(**options: Any) -> Console:
    """The console of every command: as wide as the terminal, wide enough for any table in a pipe."""
    if not sys.stdout.isatty():
        options.setdefault("width", PIPED_WIDTH)
    return Console(soft_wrap=not sys.stdout.isatty(), highlight=False, **options)


class Display:
    """Progress over all steps of all studies of a sweep."""

    def __init__(self, total: int, packs: int):
        self.console = console()
        self.total, self.packs, self.done, self.said = total, packs, 0, 0.0
        self.bar: Progress | None = None
        if self.console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("steps"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self.task = self.bar.add_task("", total=total)
        self.began = time.monotonic()

    def __enter__(self) -> "Display":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.leave()

    def leave(self) -> None:
        """Give the terminal back as it was, for a process that is about to end."""
        if self.bar:
            self.bar.stop()

    def say(self, line: str) -> None:
        self.console.print(line, markup=False)

    def show(self, pack: int, what: str, steps: int, kl_bits: float | None = None) -> None:
        """`steps` more are done (in model-steps); `what` is at hand, `kl_bits` its KL so far."""
        self.done += steps
        kl = "" if kl_bits is None else f" · KL {kl_bits:.2g} bits"
        line = f"pack {pack}/{self.packs} · {what}{kl}"
        if self.bar:
            self.bar.update(self.task, completed=self.done, description=line)
        elif time.monotonic() - self.said >= SECONDS:
            self.said = time.monotonic()
            left = (self.said - self.began) * (self.total - self.done) / self.done if self.done else None
            self.say(f"{self.done}/{self.total} steps · {line}" + ("" if left is None else f" · {left:.0f} s left"))

"""Stopping on request: Ctrl-C and SIGTERM end a run within seconds, after a checkpoint if a pack is training."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from windtunnel.errors import Interrupted

GRACE = 5.0  # seconds to end cleanly; a compilation may need longer, but nothing is lost if it is killed


class Stop:
    """A flag that signals set, and that the run checks wherever it can end cleanly.

    Python handles a signal only between two of its own instructions, and XLA may compile for a minute within one. So a
    second thread waits for the signal too: if the run has not ended after `GRACE` seconds, or at a second signal, it
    ends the process at once. Only the progress since the last checkpoint is lost, since files are written atomically.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def ask(self, number: int = signal.SIGTERM) -> None:
        self.signal = number

    @property
    def asked(self) -> bool:
        return self.signal is not None

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come."""
        if self.signal is not None:
            raise Interrupted(self.signal)

    @contextmanager
    def listening(
        self, leave: Callable[[], None] = lambda: None, signals: Iterable[int] = (signal.SIGINT, signal.SIGTERM)
    ) -> Iterator[None]:
        """Within this context, signals set the flag. `leave` is called where the process is ended at once."""
        if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
            yield
            return
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        wanted = set(signals)
        before = {number: signal.signal(number, lambda number, _: self.ask(number)) for number in wanted}
        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        ended = threading.Event()

        def watch() -> None:
            received = 0
            while number := os.read(reader, 1)[0]:  # a zero byte ends the thread
                if number not in wanted:
                    continue
                received += 1
                if received == 1:
                    threading.Thread(target=lambda: ended.wait(GRACE) or self._end(number, leave), daemon=True).start()
                else:
                    self._end(number, leave)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.write(writer, b"\0")
            watcher.join()
            os.close(reader)
            os.close(writer)

    def _end(self, number: int, leave: Callable[[], None]) -> None:
        leave()
        print(f"windtunnel: {Interrupted(number)}", file=sys.stderr, flush=True)
        os._exit(128 + number)

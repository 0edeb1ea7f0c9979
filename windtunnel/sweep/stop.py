"""Being asked to stop: Ctrl-C and SIGTERM end a run within seconds, with a checkpoint where there is one to make."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from windtunnel.errors import Interrupted

GRACE = 5.0  # seconds for the work at hand to come to an end; a compilation may take longer and has nothing to lose


class Stop:
    """A flag that signals raise and work looks at whenever it can end cleanly.

    Python sees a signal only between two of its own instructions, and XLA may compile for a minute in one. So a second
    thread waits for the signal itself: where the work has not ended after `GRACE` seconds, or at a second signal, it
    ends the process at once. Nothing is lost by that but what came after the last checkpoint: files are written whole.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def ask(self, number: int = signal.SIGTERM) -> None:
        self.signal = number

    @property
    def asked(self) -> bool:
        return self.signal is not None

    def check(self) -> None:
        """Raise `Interrupted` where somebody asked."""
        if self.signal is not None:
            raise Interrupted(self.signal)

    @contextmanager
    def listening(
        self, leave: Callable[[], None] = lambda: None, signals: Iterable[int] = (signal.SIGINT, signal.SIGTERM)
    ) -> Iterator[None]:
        """Signals raise the flag, here inside. `leave` is called before the process ends at once."""
        if threading.current_thread() is not threading.main_thread():  # only that one may listen
            yield
            return
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        wanted = set(signals)
        before = {number: signal.signal(number, lambda number, _: self.ask(number)) for number in wanted}
        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        ended = threading.Event()

        def watch() -> None:
            heard = 0
            while number := os.read(reader, 1)[0]:  # 0: it is over
                if number not in wanted:
                    continue
                heard += 1
                if heard == 1:
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

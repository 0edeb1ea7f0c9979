"""Compiled functions, and the time that compiling them took."""

import threading
import time
from typing import Any, NamedTuple

from windtunnel import cache


class Cost(NamedTuple):
    """Programs that were compiled, programs that were found compiled, and the seconds that both took."""

    compilations: int = 0
    found: int = 0
    seconds: float = 0.0

    def plus(self, other: "Cost", sign: int = 1) -> "Cost":
        compilations, found, seconds = other
        return Cost(self.compilations + sign * compilations, self.found + sign * found, self.seconds + sign * seconds)


class Compiled:
    """The compiled functions of one structure of studies, shared by all packs that a program is filled with."""

    def __init__(self) -> None:
        self.functions: dict[Any, Any] = {}
        self._lock, self._of_names = threading.Lock(), dict[Any, threading.Lock]()
        self.cost = self._reported = Cost()

    def get(self, name: Any, function: Any, *arguments: Any) -> Any:
        """The jitted `function`, compiled at the first call, or found as it was compiled in another run. Another thread
        that asks for it meanwhile waits for it.
        """
        with self._lock:
            own = self._of_names.setdefault(name, threading.Lock())
        with own:
            if name not in self.functions:
                self._make(name, function, *arguments)
        return self.functions[name]

    def _make(self, name: Any, function: Any, *arguments: Any) -> None:
        began, found, key = time.perf_counter(), cache.hits(), cache.key(name, function, arguments)
        program = cache.load(key)
        was_found = program is not None
        if program is None:
            program = function.lower(*arguments).compile()
            was_found = cache.hits() > found
            if not was_found and time.perf_counter() - began > cache.WORTH:
                cache.store(key, program)  # not what JAX had kept: XLA loses parts of a program at the second time
        self.functions[name] = program
        with self._lock:
            self.cost = self.cost.plus(Cost(not was_found, was_found, time.perf_counter() - began))

    def take(self) -> Cost:
        """What there was to compile since the last call."""
        since, self._reported = self.cost.plus(self._reported, -1), self.cost
        return since

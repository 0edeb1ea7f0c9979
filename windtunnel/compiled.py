"""Compiled functions, and the time that compiling them took."""

import time
from typing import Any


class Compiled:
    """The compiled functions of one structure of studies, shared by all packs that a program is filled with."""

    def __init__(self) -> None:
        self.functions: dict[Any, Any] = {}
        self.seconds = 0.0
        self._reported = 0, 0.0

    def get(self, name: Any, function: Any, *arguments: Any) -> Any:
        """The jitted `function`, compiled at the first call."""
        if name not in self.functions:
            began = time.perf_counter()
            self.functions[name] = function.lower(*arguments).compile()
            self.seconds += time.perf_counter() - began
        return self.functions[name]

    def take(self) -> tuple[int, float]:
        """The number of compilations, and the seconds they took, since the last call."""
        count, seconds = self._reported
        self._reported = len(self.functions), self.seconds
        return len(self.functions) - count, self.seconds - seconds

"""Compiled functions, and what compiling them cost."""

import time
from typing import Any


class Compiled:
    """The compiled functions of a structure: shared by all packs that a program is filled with."""

    def __init__(self) -> None:
        self.functions: dict[Any, Any] = {}
        self.seconds = 0.0
        self._reported = 0, 0.0

    def get(self, name: Any, function: Any, *arguments: Any) -> Any:
        """The jitted `function`, compiled when first asked for."""
        if name not in self.functions:
            began = time.perf_counter()
            self.functions[name] = function.lower(*arguments).compile()
            self.seconds += time.perf_counter() - began
        return self.functions[name]

    def take(self) -> tuple[int, float]:
        """How many compilations there were, and the seconds they took, since this was last asked."""
        count, seconds = self._reported
        self._reported = len(self.functions), self.seconds
        return len(self.functions) - count, self.seconds - seconds

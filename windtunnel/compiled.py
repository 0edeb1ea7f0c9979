"""Compiled functions, and the time that compiling them took."""

import time
from typing import Any, NamedTuple

import jax

from windtunnel import cache

# Of programs that run for a moment and that no verdict rests on: a CPU compiles the example in a fifth of the time (of
# what starts a GRU it would save nothing: its QR decompositions run that much slower).
HASTE = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


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
        self.cost = self._reported = Cost()

    def get(self, name: Any, function: Any, *arguments: Any, haste: bool = False) -> Any:
        """The jitted `function`, compiled at the first call, or found as it was compiled in another run. In haste where
        it runs for a moment.
        """
        if name not in self.functions:
            began, found, key = time.perf_counter(), cache.Kept.found, cache.key(name, function, arguments)
            program = cache.load(key)
            was_found = program is not None
            if program is None:
                options = HASTE if haste and jax.default_backend() == "cpu" else None
                program = function.lower(*arguments).compile(compiler_options=options)
                was_found = cache.Kept.found > found
                if not was_found and time.perf_counter() - began > cache.WORTH:
                    cache.store(key, program)  # not what JAX had kept: XLA loses parts of a program at the second time
            self.functions[name] = program
            own = Cost(not was_found, was_found, time.perf_counter() - began)
            self.cost = self.cost.plus(own)
        return self.functions[name]

    def take(self) -> Cost:
        """What there was to compile since the last call."""
        since, self._reported = self.cost.plus(self._reported, -1), self.cost
        return since

"""Compiled functions, ahead of time where that is known, and the time that compiling them took.

Tracing is Python's and takes one program after the other; XLA needs no Python, so that several programs are compiled at
the same time, while the run goes on: what is asked for `ahead` is waited for where it is used.
"""

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import jax

from windtunnel import cache

# Of programs that run for a moment: a CPU compiles them in a fifth of the time, and they run a few times slower.
HASTE: dict[str, bool | int] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):  # later XLA knows no such option, and refuses it
    HASTE["xla_cpu_use_fusion_emitters"] = False
COMPILERS = ThreadPoolExecutor(max(2, len(os.sched_getaffinity(0))), thread_name_prefix="compiler")
coming: set[Future] = set()  # what is being compiled, of all `Compiled`


class Cost(NamedTuple):
    """Programs that were compiled, programs that were found compiled, and the seconds that the run took to trace them
    and waited for them.
    """

    compilations: int = 0
    found: int = 0
    seconds: float = 0.0

    def plus(self, other: "Cost", sign: int = 1) -> "Cost":
        compilations, found, seconds = other
        return Cost(self.compilations + sign * compilations, self.found + sign * found, self.seconds + sign * seconds)


class Compiled:
    """The compiled functions of one structure of studies, shared by all packs that a program is filled with. In haste
    where they are not used, or for a moment.
    """

    def __init__(self, haste: bool = False) -> None:
        self.functions: dict[Any, Any] = {}
        self.coming: dict[Any, Future] = {}
        self.haste = haste
        self.cost = self._reported = Cost()

    def get(self, name: Any, function: Any, *arguments: Any, haste: bool = False) -> Any:
        """The jitted `function`, compiled at the first call, or found as it was compiled in another run. What compiling
        raised is raised here.
        """
        if name not in self.functions:
            self.ahead(name, function, *arguments, haste=haste)
            began = time.perf_counter()
            self.functions[name], found = self.coming.pop(name).result()
            self.cost = self.cost.plus(Cost(not found, found, time.perf_counter() - began))
        return self.functions[name]

    def ahead(self, name: Any, function: Any, *arguments: Any, haste: bool = False) -> None:
        """Begin to compile what `get` will be asked for; nothing that goes wrong is raised before that."""
        if name in self.functions or name in self.coming:
            return
        began, haste = time.perf_counter(), self.haste or haste
        try:
            key = cache.key((name, haste), function, arguments)
            # Traced in this thread: settings of JAX may be those of a thread.
            lowered = None if cache.holds(key) else function.lower(*arguments)
            future = COMPILERS.submit(_program, key, function, arguments, lowered, haste)
        except Exception as error:
            future = Future()
            future.set_exception(error)
        coming.add(future)
        future.add_done_callback(coming.discard)
        self.coming[name] = future
        self.cost = self.cost.plus(Cost(seconds=time.perf_counter() - began))

    def shape(self, name: Any, function: Any, *arguments: Any) -> Any:
        """Shapes of what the jitted `function` gives. Tracing takes longest, so that the trace is the one that is
        compiled later, and none where the program is found.
        """
        found = cache.holds(cache.key((name, self.haste), function, arguments))
        given = self.get(name, function, *arguments).out_info if found else function.eval_shape(*arguments)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), given)

    def take(self) -> Cost:
        """What there was to compile since the last call."""
        since, self._reported = self.cost.plus(self._reported, -1), self.cost
        return since


def _program(key: str | None, function: Any, arguments: Any, lowered: Any, haste: bool) -> tuple[Any, bool]:
    """The program, and whether it was found."""
    if lowered is None and (program := cache.load(key)) is not None:
        return program, True
    began, found = time.perf_counter(), cache.Found.count
    lowered = lowered or function.lower(*arguments)  # what was found is damaged
    options = HASTE if haste and jax.default_backend() == "cpu" else None
    program = lowered.compile(compiler_options=options)
    was_found = cache.Found.count > found
    if not was_found and time.perf_counter() - began > cache.WORTH:
        cache.store(key, program)  # not what JAX had kept: XLA loses parts of a program at the second time
    return program, was_found


def finish() -> None:
    """Wait for all that is being compiled."""
    wait(list(coming))


def settle() -> None:
    """Begin nothing more of it, and wait for the rest: no process can end within XLA."""
    for future in list(coming):
        future.cancel()
    finish()

"""Several processes that train one pack together, each on devices of its own (`distributed=true`).

Process 0 leads: it alone reads and writes records, prints and decides. What all have to do at the same time, because
each holds a part of the arrays, are the methods of `Program`; the leader tells the others before each. So nothing that
differs between hosts (clocks, signals, what a file system shows) can make them part ways.
"""

import json
import os
import signal
from collections.abc import Callable
from typing import Any, ClassVar, Self
from weakref import WeakValueDictionary

import jax
import numpy as np
from jax.experimental.multihost_utils import broadcast_one_to_all

from windtunnel.config import Settings, Study, plain, study
from windtunnel.errors import BadInput
from windtunnel.sweep.packs import Program, use_all_cores

COORDINATOR, PROCESSES, PROCESS = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
PARTING = 10  # seconds that a process which fails waits for the others: they are waiting for it, and end with it


def join() -> None:
    """Find the other processes: where SLURM, MPI or a TPU slice says, or where the environment does.

    Must come before JAX's first computation. A process number differs from process to process while the command line
    does not; so it is the environment's, under the names that JAX has for its own arguments.
    """
    given = {name: os.environ[name] for name in (COORDINATOR, PROCESSES, PROCESS) if name in os.environ}
    if given and len(given) < 3:
        missing = ({COORDINATOR, PROCESSES, PROCESS} - set(given)).pop()
        raise BadInput(f"{missing}: missing, while {', '.join(given)} is set; all three name a process, or none")
    try:
        count, number = (int(given[PROCESSES]), int(given[PROCESS])) if given else (None, None)
        jax.distributed.initialize(given.get(COORDINATOR), count, number, shutdown_timeout_seconds=PARTING)
    except (ValueError, RuntimeError) as error:
        raise BadInput(
            f"distributed=true: no other processes found ({str(error).splitlines()[0]}); start it with srun or mpirun, "
            f"on a TPU slice, or set {COORDINATOR}=HOST:PORT, {PROCESSES} and {PROCESS} for each"
        ) from None
    use_all_cores()


def together(settings: Settings, run: Callable[[], bool]) -> bool:
    """`run` where this process is alone or leads; the others follow. Whether it went well, in all of them."""
    if not settings.distributed:
        return run()
    join()
    if not leads():
        return follow()
    well = False
    try:
        well = run()
    except jax.errors.JaxRuntimeError:  # in the middle of what all do together: nobody would hear us
        raise
    except BaseException:
        end(well)
        raise
    end(well)
    return well


def leads() -> bool:
    """Whether this process is the one that decides; the only one is."""
    return jax.process_index() == 0


def program(studies: list[Study]) -> Program:
    """The program of a pack, on the devices of all processes."""
    return Program(studies) if jax.process_count() == 1 else Led(studies)


class Led(Program):
    """The leader's side of a program that all processes run."""

    living: ClassVar[WeakValueDictionary[int, "Led"]] = WeakValueDictionary()
    made = 0

    def __init__(self, studies: list[Study]):
        Led.made += 1
        self.number = Led.made
        Led.living[self.number] = self
        tell("program", self.number, list(Led.living), [plain(one) for one in studies])
        super().__init__(studies)

    def filled(self, studies: list[Study]) -> Self:
        Led.made += 1
        tell("filled", Led.made, list(Led.living), self.number, [plain(one) for one in studies])
        other = super().filled(studies)
        other.number = Led.made
        Led.living[other.number] = other
        return other

    def memory(self, stage: str) -> int:
        tell("memory", self.number, stage)
        return super().memory(stage)

    def start(self) -> Any:
        tell("start", self.number)
        return super().start()

    def resume(self, state: Any) -> Any:
        tell("resume", self.number)
        return super().resume(handed(state))

    def advance(self, state: Any, steps: int) -> Any:
        tell("advance", self.number, steps)
        return super().advance(state, steps)

    def fetch(self, state: Any) -> Any:
        tell("fetch", self.number)
        return super().fetch(state)

    def predict(self, params: Any) -> Any:
        tell("predict", self.number)
        return super().predict(handed(params))


def follow() -> bool:
    """The other processes' side: do what the leader says, until it says that all is done, and whether it went well."""
    for asked in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):  # whoever wants to stop us asks the leader as well
        signal.signal(asked, signal.SIG_IGN)
    programs: dict[int, Program] = {}
    states: dict[int, Any] = {}
    while True:
        what, *arguments = hear()
        if what == "end":
            return arguments[0]
        number, *arguments = arguments
        if what in ("program", "filled"):
            living, *like, plains = arguments
            programs = {key: made for key, made in programs.items() if key in living}
            states = {key: state for key, state in states.items() if key in living}
            studies = [study(one) for one in plains]
            programs[number] = programs[like[0]].filled(studies) if like else Program(studies)
            continue
        made = programs[number]
        if what == "memory":
            made.memory(*arguments)
        elif what == "start":
            states[number] = made.start()
        elif what == "resume":
            states[number] = made.resume(handed(made.state))
        elif what == "advance":
            states[number], _ = made.advance(states[number], *arguments)
        elif what == "fetch":
            made.fetch(states[number])
        elif what == "predict":
            states.pop(number, None)
            made.predict(handed(made.state.params))


def end(well: bool) -> None:
    """Let the others go."""
    tell("end", well)


def tell(*message: Any) -> None:
    text = np.frombuffer(json.dumps(message).encode(), np.uint8)
    broadcast_one_to_all(np.int32(len(text)))
    broadcast_one_to_all(np.pad(text, (0, _room(len(text)) - len(text))))


def hear() -> list[Any]:
    length = int(broadcast_one_to_all(np.int32(0)))
    return json.loads(bytes(broadcast_one_to_all(np.zeros(_room(length), np.uint8)))[:length])


def handed(tree: Any) -> Any:
    """The leader's arrays, in every process; the others give any tree of the same shapes."""
    return broadcast_one_to_all(jax.tree.map(lambda leaf: np.asarray(leaf) if leads() else _empty(leaf), tree))


def _empty(leaf: Any) -> np.ndarray:
    return np.zeros(leaf.shape, leaf.dtype)


def _room(length: int) -> int:
    """Bytes of a message: a power of two, so that there are few lengths to compile for."""
    return 1 << max(8, (length - 1).bit_length())

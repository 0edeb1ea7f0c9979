"""Several processes that train one pack together, each on devices of its own (`distributed=true`).

Process 0 leads: it alone reads and writes records, prints and decides. Each process holds a part of the arrays, so all
have to call the methods of `Program` at the same time; before each call the leader sends a message to the others. So
nothing that differs between hosts (clocks, signals, delays of a file system) can make them do different things.
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

from windtunnel.config import Settings, Study
from windtunnel.door import study
from windtunnel.errors import BadInput
from windtunnel.spec import plain
from windtunnel.sweep.packs import Program, use_all_cores

COORDINATOR, PROCESSES, PROCESS = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
PARTING = 10  # seconds that a failing process waits for the others, which cannot go on without it and end too


def join() -> None:
    """Connect to the other processes, found through SLURM, MPI, a TPU slice or three environment variables.

    Must come before JAX's first computation. The variables are named after JAX's own arguments. They are not settings,
    because all processes share one command line and each needs its own number.
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
    """Call `run` where this process is alone or leads; the others follow. All return whether the run went well."""
    if not settings.distributed:
        return run()
    join()
    if not leads():
        return follow()
    well = False
    try:
        well = run()
    except jax.errors.JaxRuntimeError:  # inside a collective operation, where the others cannot receive a message
        raise
    except BaseException:
        end(well)
        raise
    end(well)
    return well


def leads() -> bool:
    """Whether this process leads; a process that is alone does."""
    return jax.process_index() == 0


def program(studies: list[Study]) -> Program:
    """The program of a pack, on the devices of all processes."""
    return Program(studies) if jax.process_count() == 1 else Led(studies)


class Led(Program):
    """The leader's side of a program that all processes run."""

    living: ClassVar[WeakValueDictionary[int, "Led"]] = WeakValueDictionary()
    created = 0  # how many there have been; it numbers them

    def __init__(self, studies: list[Study]):
        Led.created += 1
        self.number = Led.created
        Led.living[self.number] = self
        send("program", self.number, list(Led.living), [plain(member) for member in studies])
        super().__init__(studies)

    def filled(self, studies: list[Study]) -> Self:
        Led.created += 1
        send("filled", Led.created, list(Led.living), self.number, [plain(member) for member in studies])
        other = super().filled(studies)
        other.number = Led.created
        Led.living[other.number] = other
        return other

    def memory(self, stage: str) -> int:
        send("memory", self.number, stage)
        return super().memory(stage)

    def start(self) -> Any:
        send("start", self.number)
        return super().start()

    def resume(self, state: Any) -> Any:
        send("resume", self.number)
        return super().resume(from_leader(state))

    def advance(self, state: Any, steps: int) -> Any:
        send("advance", self.number, steps)
        return super().advance(state, steps)

    def fetch(self, state: Any) -> Any:
        send("fetch", self.number)
        return super().fetch(state)

    def predict(self, params: Any, first: int = 0) -> Any:
        send("predict", self.number, first)
        return super().predict(from_leader(params), first)


def follow() -> bool:
    """The side of the other processes: do what the leader's messages say. The last one says whether all went well."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):  # the leader gets them too, and it decides
        signal.signal(number, signal.SIG_IGN)
    programs: dict[int, Program] = {}
    states: dict[int, Any] = {}
    while True:
        what, *arguments = receive()
        if what == "end":
            return arguments[0]
        number, *arguments = arguments
        if what in ("program", "filled"):
            living, *like, plains = arguments
            programs = {key: program for key, program in programs.items() if key in living}
            states = {key: state for key, state in states.items() if key in living}
            studies = [study(fields) for fields in plains]
            programs[number] = programs[like[0]].filled(studies) if like else Program(studies)
            continue
        program = programs[number]
        if what == "memory":
            program.memory(*arguments)
        elif what == "start":
            states[number] = program.start()
        elif what == "resume":
            states[number] = program.resume(from_leader(program.state))
        elif what == "advance":
            states[number], _ = program.advance(states[number], *arguments)
        elif what == "fetch":
            program.fetch(states[number])
        elif what == "predict":
            states.pop(number, None)
            program.predict(from_leader(program.state.params), *arguments)


def end(well: bool) -> None:
    """Release the other processes."""
    send("end", well)


def send(*message: Any) -> None:
    """Send a message to the processes that follow: first its length, then its text as JSON."""
    text = np.frombuffer(json.dumps(message).encode(), np.uint8)
    broadcast_one_to_all(np.int32(len(text)))
    broadcast_one_to_all(np.pad(text, (0, _room(len(text)) - len(text))))


def receive() -> list[Any]:
    """The leader's next message."""
    length = int(broadcast_one_to_all(np.int32(0)))
    return json.loads(bytes(broadcast_one_to_all(np.zeros(_room(length), np.uint8)))[:length])


def from_leader(tree: Any) -> Any:
    """The leader's arrays, in every process. The other processes pass any tree of the same shapes."""
    return broadcast_one_to_all(jax.tree.map(lambda leaf: np.asarray(leaf) if leads() else _empty(leaf), tree))


def _empty(leaf: Any) -> np.ndarray:
    return np.zeros(leaf.shape, leaf.dtype)


def _room(length: int) -> int:
    """The padded length of a message: a power of two, because JAX compiles a program for each length."""
    return 1 << max(8, (length - 1).bit_length())

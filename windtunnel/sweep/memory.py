"""Memory: how much a pack needs, how much is available, and how a pack is split so that it fits."""

import math
import resource
from collections.abc import Callable
from pathlib import Path

import jax

from windtunnel.sweep.packs import Program, split
from windtunnel.sweep.processes import program as program_of

RESERVE = 0.1  # the share of the available memory that is left unused

Work = Callable[[list, Program, str | None], None]


def in_parts(
    points: list, stage: str, programs: dict[int, Program], work: Work, fail: Callable, say: Callable[[str], None]
) -> None:
    """Call `work(part, program, cut)` for all points, in parts that fit into memory.

    All parts are padded to one size, so that they share one of the `programs`. The size is computed beforehand. If
    memory runs out all the same, the part is halved and tried again. `cut` tells the user why the pack was split. A
    single study that does not fit fails.
    """
    most, cut = fitting(points, stage, programs)
    if cut:
        say(cut)
    waiting = split(points, most)
    while waiting:
        part = waiting.pop(0)
        try:
            work(part, program_for(part, most, programs), cut)
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if not exhausted(error):
                raise
            if len(part) == 1:
                fail(part[0], f"out of memory: {next(iter(str(error).splitlines()), 'none is left')}")
                continue
            most = -(-len(part) // 2)
            cut = f"out of memory with {len(part)} studies at once; tried again with {most}"
            say(cut)
            programs.clear()  # they hold arrays on the devices
            waiting = [half for whole in [part, *waiting] for half in split(whole, most)]


def exhausted(error: Exception) -> bool:
    """Whether it is for want of memory; on a CPU, XLA calls that an internal error."""
    return isinstance(error, MemoryError) or any(
        words in str(error) for words in ("RESOURCE_EXHAUSTED", "Out of memory")
    )


def program_for(part: list, most: int, programs: dict[int, Program]) -> Program:
    """An existing program that is large enough, filled with this part; a new program if there is none."""
    sizes = [size for size in sorted(programs) if len(part) <= size <= max(most, len(part))]
    studies = [point.study for point in part]
    if not sizes:
        programs[len(part)] = program_of(studies)
        return programs[len(part)]
    return programs[sizes[0]].filled(studies)


def fitting(points: list, stage: str, programs: dict[int, Program]) -> tuple[int, str | None]:
    """How many of the points fit into one pack, by XLA's figures for the compiled `stage`; and, if not all, why.

    The need of n studies is close to a + b·n. The first compilation shows whether all fit. If not, the first guess of n
    assumes that the need is proportional to n, and later guesses use a line through two sizes.
    """
    size, known = len(points), dict[int, int]()
    while True:
        program = program_for(points[:size], size, programs)
        need, there = program.memory(stage), available()
        known[size] = need
        if need <= there or size == 1:
            break
        programs.pop(size, None)
        smaller = size * there // need
        if len(known) > 1:
            (n, at_n), (m, at_m) = sorted(known.items())[:2]
            if at_m > at_n:
                smaller = n + math.floor((there - at_n) * (m - n) / (at_m - at_n))
        size = max(1, min(smaller, size - 1))
    if size == len(points):
        return size, None
    whole = max(known.values())
    parts = len(split(points, size))
    return size, f"{len(points)} studies at once need {amount(whole)} of {amount(there)}: in {parts} parts"


def available() -> int:
    """Bytes that each device can still provide, from its own memory or from its share of the machine's."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        free = min(device_stats["bytes_limit"] - device_stats["bytes_in_use"] for device_stats in stats)
    else:
        free = machine() // jax.local_device_count()
    return int(free * (1 - RESERVE))


def machine() -> int:
    """Bytes that this process may still allocate: what the kernel has available, and what control groups and the
    process's own limit (`ulimit -v`) allow.
    """
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        free.append(max(0, most - taken))
    root = Path("/sys/fs/cgroup")
    own = [line.partition("::/")[2] for line in Path("/proc/self/cgroup").read_text().splitlines() if "::/" in line]
    for folder in [root / name for name in own for name in (Path(name), *Path(name).parents)]:
        limit = folder / "memory.max"
        if limit.exists() and (most := limit.read_text().strip()) != "max":
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            used = int((folder / "memory.current").read_text()) - int(stat.get("inactive_file", 0))
            free.append(max(0, int(most) - used))
    return min(free)


def amount(count: float) -> str:
    """`25 kB`, `6.7 MB`, `19 GB`"""
    units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"]
    while count >= 999.5 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.2g} {units[0]}" if count < 9.95 else f"{count:.0f} {units[0]}"

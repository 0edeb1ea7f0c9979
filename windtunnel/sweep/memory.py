"""Memory: what a pack needs, what there is, and how a pack is cut so that it fits."""

import math
from collections.abc import Callable
from pathlib import Path

import jax

from windtunnel.sweep.packs import Program, split
from windtunnel.sweep.processes import program as program_of

RESERVE = 0.1  # the share of what there is that is left alone

Work = Callable[[list, Program, str | None], None]


def in_parts(
    points: list, stage: str, programs: dict[int, Program], work: Work, fail: Callable, say: Callable[[str], None]
) -> None:
    """Call `work(part, program, cut)` until all points are through, in parts that fit into memory.

    Parts are as many as needed and padded to one size, so that they share one of the `programs`. They are sized
    beforehand; where memory is exhausted all the same a part is cut in two and tried again. `cut` says what was done.
    A single study that does not fit fails: there is nothing left to cut.
    """
    most, cut = fitting(points, stage, programs)
    if cut:
        say(cut)
    waiting = split(points, most)
    while waiting:
        part = waiting.pop(0)
        try:
            work(part, program_for(part, most, programs), cut)
        except jax.errors.JaxRuntimeError as error:
            if not exhausted(error):
                raise
            if len(part) == 1:
                fail(part[0], f"out of memory: {str(error).splitlines()[0]}")
                continue
            most = -(-len(part) // 2)
            cut = f"out of memory with {len(part)} studies at once; tried again with {most}"
            say(cut)
            programs.clear()  # the larger ones hold arrays
            waiting = [half for whole in [part, *waiting] for half in split(whole, most)]


def exhausted(error: Exception) -> bool:
    return "RESOURCE_EXHAUSTED" in str(error)


def program_for(part: list, most: int, programs: dict[int, Program]) -> Program:
    """One that is there already and large enough, filled anew; else a new one."""
    sizes = [size for size in sorted(programs) if len(part) <= size <= max(most, len(part))]
    studies = [point.study for point in part]
    if not sizes:
        programs[len(part)] = program_of(studies)
        return programs[len(part)]
    return programs[sizes[0]].filled(studies)


def fitting(points: list, stage: str, programs: dict[int, Program]) -> tuple[int, str | None]:
    """How many of the points a pack can hold, by what XLA says of the compiled `stage`; and, if cut, why.

    What n studies need is close to a + b·n. One compilation tells whether all fit; if not, a first guess of n is as if
    all of it grew with n, and a line through two sizes gives the next.
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
    """Bytes that one device can still give: of its own memory, or its share of the machine's."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        free = min(one["bytes_limit"] - one["bytes_in_use"] for one in stats)
    else:
        free = machine() // jax.local_device_count()
    return int(free * (1 - RESERVE))


def machine() -> int:
    """Bytes that this process may still take: what is available, and what control groups allow."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
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
    units = ["B", "kB", "MB", "GB"]
    while count >= 999.5 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.2g} {units[0]}" if count < 9.95 else f"{count:.0f} {units[0]}"

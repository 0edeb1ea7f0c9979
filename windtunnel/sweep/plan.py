"""What a run would do: its points, packs, parameters and memory. Compiles programs; neither trains nor writes."""

from pathlib import Path

import jax
from rich import box
from rich.table import Table

from windtunnel import records
from windtunnel.progress import console
from windtunnel.sweep.memory import amount, available, fitting
from windtunnel.sweep.packs import Program, split
from windtunnel.sweep.point import Point, title


def show(root: Path, points: list[Point], packs: list[list[Point]]) -> None:
    """Print the points of a run, and the size and the memory of each pack that is still to run."""
    out = console()
    left = [point.id for pack in packs for point in pack]
    out.print(f"{root}: {len(points)} studies, {len(points) - len(left)} of them done", markup=False)
    table = Table("pack", "study", "", "state", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    pack_of = {point.id: number for number, pack in enumerate(packs, 1) for point in pack}
    for point in points:
        swept = " ".join(f"{key}={value}" for key, value in point.overrides.items())
        number = pack_of.get(point.id)
        table.add_row(str(number or ""), point.id, swept, records.status(root / point.id) if number else "done")
    out.print(table)
    for number, pack in enumerate(packs, 1):
        out.print(f"pack {number}/{len(packs)}: {needs(pack)}", markup=False)


def needs(pack: list[Point]) -> str:
    """`recall (6 studies) of 84,608 parameters; a device needs 210 MB to train them, 1.1 GB to judge, and has 19 GB`"""
    programs = {len(pack): Program([point.study for point in pack], haste=True)}  # which changes no memory
    programs[len(pack)].ahead("advance", "predict")
    trained, _ = fitting(pack, "advance", programs)
    program = programs[trained]
    parameters = sum(leaf.size // leaf.shape[0] for leaf in jax.tree.leaves(program.state.params))
    training = program.memory("advance")
    judged, _ = fitting(pack, "predict", programs)
    parts = f", in {len(split(pack, trained))} parts" if trained < len(pack) else ""
    devices = jax.local_device_count()
    return (
        f"{title(pack)} of {parameters:,} parameters{parts}; a device needs {amount(training)} to train them, "
        f"{amount(programs[judged].memory('predict'))} to judge, and has {amount(available())} "
        f"({devices} {jax.default_backend()} device{'s' if devices > 1 else ''})"
    )

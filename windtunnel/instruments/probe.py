"""`windtunnel probe DIR [instrument …]`: look into finished studies and write down what is seen, in `probe.json`."""

import importlib
from pathlib import Path
from typing import Any

from rich.table import Table

from windtunnel import checkpoint, records
from windtunnel.errors import BadInput, no_such
from windtunnel.instruments import INSTRUMENTS
from windtunnel.instruments.base import Json, Subject, finite
from windtunnel.progress import console
from windtunnel.report.groups import groups, swept_keys
from windtunnel.report.numbers import number
from windtunnel.sweep.load import load


def probe(folder: Path, names: list[str]) -> None:
    """Probe every finished study of a folder. An instrument that makes no sense for a study says why, in a line."""
    for name in names:
        if name not in INSTRUMENTS:
            raise BadInput(f"probe {name}: {no_such(name, list(INSTRUMENTS))}")
    found = [place for place in records.studies(folder) if checkpoint.exists(place / "checkpoint")]
    if not found:
        raise BadInput(f"{folder}: holds no trained study; run it first")
    out = console()
    for place in found:
        out.print(place.name, markup=False, style="bold")
        study, _, params = load(place)
        record = look_into(Subject(study, params, place), names or list(INSTRUMENTS))
        write(place, record)
        for name, said in record.items():
            for line in [said["skipped"]] if "skipped" in said else instrument(name).lines(said):
                out.print(f"  {name}: {line}", markup=False)
    if len(found) > 1:
        for table in summaries(folder, names or list(INSTRUMENTS)):
            out.print(table)
    out.print(f"records in {', '.join(str(place / 'probe.json') for place in found[:1])}"
              + (f" and {len(found) - 1} more" if len(found) > 1 else ""), markup=False)  # fmt: skip


def instrument(name: str) -> Any:
    return importlib.import_module(f"windtunnel.instruments.{name}")


def look_into(subject: Subject, names: list[str]) -> dict[str, Json]:
    """{instrument: its record}; of one that makes no sense here, why."""
    made = {}
    for name in names:
        why = instrument(name).refusal(subject)
        made[name] = {"skipped": why} if why else finite(instrument(name).measure(subject))
    return made


def write(folder: Path, record: dict[str, Json]) -> None:
    """`probe.json`: instruments that were not asked this time keep what they had."""
    path = folder / "probe.json"
    before = records.read_json(path) if path.exists() else {}
    records.write_json(path, {**before, **record})


def summaries(root: Path, names: list[str]) -> list[Table]:
    """One table an instrument: its headlines for each group of seeds, mean over seeds [95 % interval]."""
    made = [group for group in groups(records.rows(root), swept_keys(root)) if group.done]
    tables = []
    for name in names:
        shown = {row["study_id"]: headline(root / row["study_id"], name) for group in made for row in group.done}
        columns = list(dict.fromkeys(column for of in shown.values() for column in of))
        if not columns:
            continue
        table = Table(title=f"{name}: {INSTRUMENTS[name]}", title_justify="left")
        for key in made[0].key:
            table.add_column(key, overflow="fold")
        for column in columns:
            table.add_column(column.replace("_", " "), justify="right", no_wrap=True)
        for group in made:
            seeds = [shown[row["study_id"]] for row in group.done]
            table.add_row(*group.key.values(), *(mean([of.get(column) for of in seeds]) for column in columns))
        tables.append(table)
    return tables


def headline(folder: Path, name: str) -> dict[str, float | None]:
    """The few numbers of one instrument on one study; nothing where it was not probed or made no sense."""
    path = folder / "probe.json"
    record = records.read_json(path).get(name, {"skipped": ""}) if path.exists() else {"skipped": ""}
    return {} if "skipped" in record else instrument(name).headline(record)


def mean(over_seeds: list[float | None]) -> str:
    """Arithmetic mean over seeds and its t interval (headlines may be negative)."""
    values = [value for value in over_seeds if value is not None]
    if not values:
        return "–"
    centre = sum(values) / len(values)
    if len(values) < 3:
        return number(centre)
    from scipy.special import stdtrit

    spread = (sum((v - centre) ** 2 for v in values) / (len(values) - 1) / len(values)) ** 0.5
    half = stdtrit(len(values) - 1, 0.975) * spread
    return f"{number(centre)} [{number(centre - half)}, {number(centre + half)}]"

"""`windtunnel probe DIR [instrument …]`: run instruments on finished studies, and record the results in
`probe.json`.
"""

import sys
from pathlib import Path

from rich.table import Table

from windtunnel import checkpoint, plugins, records
from windtunnel.errors import BadInput, StudyFailed, no_such
from windtunnel.instruments import INSTRUMENTS, instrument
from windtunnel.instruments.base import Json, Subject, finite
from windtunnel.load import load
from windtunnel.progress import console
from windtunnel.records.groups import groups, swept_keys
from windtunnel.records.statistics import mean_interval
from windtunnel.report.numbers import number


def probe(folder: Path, words: list[str], trust: bool = False) -> None:
    """Probe every finished study of a folder. An instrument that does not apply to a study prints why, in one line. The
    words are instruments, and plug-ins that studies may come from, as `plugins=FILE`.
    """
    plugs = [name for word in words if word.startswith("plugins=") for name in _listed(word)]
    names = [word for word in words if not word.startswith("plugins=")]
    names = [plugins.instrument(name) if name.endswith(".py") else name for name in names] or list(INSTRUMENTS)
    for name in names:
        if name not in INSTRUMENTS:
            raise BadInput(f"probe {name}: {no_such(name, list(INSTRUMENTS))}")
    trained = [
        study_folder for study_folder in records.studies(folder) if checkpoint.exists(study_folder / "checkpoint")
    ]
    if not trained:
        raise BadInput(f"{folder}: holds no trained study; run it first")
    out = console()
    damaged = []
    for study_folder in list(trained):
        out.print(study_folder.name, markup=False, style="bold")
        try:
            study, _, params = load(study_folder, plugs, trust)
            record = look_into(Subject(study, params, study_folder), names)
        except records.Damaged as error:
            trained.remove(study_folder)
            damaged.append(error)
            out.print(f"  {error}", markup=False)
            continue
        write(study_folder, record)
        for name, measured in record.items():
            for line in [measured["skipped"]] if "skipped" in measured else instrument(name).lines(measured):
                out.print(f"  {name}: {line}", markup=False)
    if len(trained) > 1:
        for table in summaries(folder, names, {study_folder.name for study_folder in trained}):
            out.print(table)
    if not trained:
        raise damaged[0]
    more = f" and {len(trained) - 1} more" if len(trained) > 1 else ""
    out.print(f"records in {trained[0] / 'probe.json'}{more}", markup=False)
    if damaged:
        raise StudyFailed


def _listed(word: str) -> list[str]:
    """The names in `plugins=a.py,b.py`, or in `plugins=[a.py,b.py]`."""
    return [name for name in word.partition("=")[2].strip("[]").split(",") if name]


def look_into(subject: Subject, names: list[str]) -> dict[str, Json]:
    """{instrument: its record}; for an instrument that does not apply to the study, the reason."""
    record = {}
    for name in names:
        why = instrument(name).refusal(subject)
        record[name] = {"skipped": why} if why else finite(instrument(name).measure(subject))
    return record


def write(folder: Path, record: dict[str, Json]) -> None:
    """Update `probe.json`: the records of instruments that did not run this time are kept."""
    path = folder / "probe.json"
    try:
        before = records.read_json(path) if path.exists() else {}
    except records.Damaged as error:
        records.set_aside(path)
        print(f"windtunnel: {error}; kept as {path.name}{records.AWAY}", file=sys.stderr)
        before = {}
    records.write_json(path, {**before, **record})


def summaries(root: Path, names: list[str], probed: set[str]) -> list[Table]:
    """One table per instrument: its headlines for each group of seeds, mean over seeds [95 % interval]."""
    rows = [row for row in records.rows(root) if row["study_id"] in probed]
    done = [group for group in groups(rows, swept_keys(root)) if group.done]
    tables = []
    for name in names:
        headlines = {row["study_id"]: headline(root / row["study_id"], name) for group in done for row in group.done}
        columns = list(dict.fromkeys(column for numbers in headlines.values() for column in numbers))
        if not columns:
            continue
        table = Table(title=f"{name}: {INSTRUMENTS[name]}", title_justify="left")
        for key in done[0].key:
            table.add_column(key, overflow="fold")
        for column in columns:
            table.add_column(column.replace("_", " "), justify="right", no_wrap=True)
        for group in done:
            seeds = [headlines[row["study_id"]] for row in group.done]
            means = (mean([numbers.get(column) for numbers in seeds]) for column in columns)
            table.add_row(*group.key.values(), *means)
        tables.append(table)
    return tables


def headline(folder: Path, name: str) -> dict[str, float | None]:
    """The main numbers of one instrument on one study; empty if it did not run or did not apply."""
    record = records.read_json(folder / "probe.json").get(name, {"skipped": ""})
    return {} if "skipped" in record else instrument(name).headline(record)


def mean(over_seeds: list[float | None]) -> str:
    """Arithmetic mean over seeds and its interval (headlines may be negative)."""
    result = mean_interval([value for value in over_seeds if value is not None])
    if result.n == 0:
        return "–"
    return (
        number(result.mean) if result.n < 3 else f"{number(result.mean)} [{number(result.low)}, {number(result.high)}]"
    )

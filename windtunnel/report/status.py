"""The progress of a sweep: what is done, running, failed, cut off and waiting, and why. From records and claims
only.
"""

from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.table import Table

from windtunnel import records
from windtunnel.errors import BadInput
from windtunnel.progress import console
from windtunnel.records import jobs
from windtunnel.records.claims import held
from windtunnel.records.health import in_words
from windtunnel.report.numbers import number

STATES = ("done", "running", "queued", "failed", "damaged", "cut off", "waiting")
MOST_VALUES = 8  # the most values of a swept key in a line


class Standing(NamedTuple):
    """The state of a study, why it is in this state, and what its monitors said last, if it has any."""

    study_id: str
    state: str  # one of STATES
    why: str
    overrides: dict[str, str]
    health: str | None = None


def standings(root: Path) -> list[Standing]:
    """The standing of every study of a sweep, or of the single study in the folder."""
    folders = records.studies(root)
    swept = records.overrides(root)
    root = folders[0].parent
    claimed = held(root, [folder.name for folder in folders])
    notes = {name: note for note in records.notes(root) for name in note["studies"]}
    sent = jobs.latest(root)
    alive = jobs.queue() if sent else None
    result = []
    for folder in folders:
        state, why = _state(folder, notes.get(folder.name), folder.name in claimed)
        if folder.name in sent and state != "done":
            state, why = _state_of_job(root, sent[folder.name], alive, state, why)
        result.append(Standing(folder.name, state, why, swept.get(folder.name, {}), in_words(folder)))
    return result


def _state(folder: Path, note: dict[str, Any] | None, claimed: bool) -> tuple[str, str]:
    record = records.read(folder)
    state = record.state
    if claimed and state != "done":
        return "running", _progress(note)
    if state == "done":
        return "done", ""
    if state in ("failed", "damaged"):
        return state, record.why
    if (folder / "checkpoint").exists():
        return "cut off", "trained, not yet judged"
    if note and note["saved"]:
        return "cut off", f"goes on from step {note['saved']} of {note['steps']}"
    if (folder / "study.json").exists():
        return "cut off", "before its first checkpoint: starts again"
    return "waiting", "not begun"


def _state_of_job(root: Path, job: jobs.Job, alive: dict[str, str] | None, state: str, why: str) -> tuple[str, str]:
    """State and reason of a study that was sent to a cluster with the queue `alive` (None: the queue is not known).

    `state` and `why` are what its records say.
    """
    name, log = f"job {job.id}", root / job.log
    if state == "running":
        return state, f"{name}: {why}" if why else name
    waits = alive[job.id] == "PENDING" if alive and job.id in alive else alive is None and not log.exists()
    if waits:
        return "queued", name if state == "waiting" else f"{name}: {why}"
    if alive is None:
        return state, f"{why}; {name} began, see {log}"
    if job.id in alive:
        return "running", f"{name} is starting"
    return state, f"{why}; {name} has ended, see {log}" if log.exists() else f"{why}; {name} has ended"


def _progress(note: dict[str, Any] | None) -> str:
    """`step 300 of 1000, KL 0.02 bits, saved at 250 (host, process 4711)`"""
    if note is None:
        return ""
    parts = [f"step {note['step']} of {note['steps']}" if note["what"] == "training" else note["what"]]
    known = sorted(value for value in note.get("kl_bits") or [] if value is not None)
    if note["what"] == "training" and known:
        parts.append(f"KL {number(known[len(known) // 2])} bits")
    if note["saved"]:
        parts.append(f"saved at {note['saved']}")
    return f"{', '.join(parts)} ({note['host']}, process {note['process']})"


def counts(studies: list[Standing]) -> str:
    """`18 studies: 12 done, 3 running, 3 waiting`"""
    parts = [f"{n} {state}" for state in STATES if (n := sum(study.state == state for study in studies))]
    return f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}: {', '.join(parts)}"


def which(studies: list[Standing]) -> str:
    """The swept values of these studies: `position=rope,alibi seed=0,1,2`"""
    keys = dict.fromkeys(key for study in studies for key in study.overrides)
    parts = []
    for key in keys:
        values = list(dict.fromkeys(study.overrides[key] for study in studies if key in study.overrides))
        more = f",… ({len(values)})" if len(values) > MOST_VALUES else ""
        parts.append(f"{key}={','.join(values[:MOST_VALUES])}{more}")
    ids = [study.study_id for study in studies]
    return " ".join(parts) or ", ".join(ids[:MOST_VALUES]) + (f", … ({len(ids)})" if len(ids) > MOST_VALUES else "")


def effort(root: Path) -> str | None:
    """The cost of the packs of a folder so far, by their notes; None if nothing was trained.

    `2 packs, 10 compilations in 28 s, 34 s of steps: 47 model-steps/s`
    """
    notes = [note for note in records.notes(root) if note["steady_seconds"]]
    if not notes:
        return None
    seconds = sum(note["steady_seconds"] for note in notes)
    steps = sum(note["step"] * len(note["studies"]) for note in notes)
    compilations = sum(note["compilations"] for note in notes)
    found = sum(note.get("found_compiled", 0) for note in notes)
    compiling = sum(note["compile_seconds"] for note in notes)
    kept = f" and {found} programs found compiled" if found else ""
    packs = "1 pack" if len(notes) == 1 else f"{len(notes)} packs"
    return (
        f"{packs}, {compilations} compilations{kept} in {compiling:.3g} s, {seconds:.3g} s of steps: "
        f"{steps / seconds:.3g} model-steps/s"
    )


def show(root: Path) -> None:
    """Print the progress of a study, of a sweep, or of every sweep of a runs folder."""
    out = console()
    inside = sweeps(root)
    if inside != [root]:
        summary = Table(*("sweep", *STATES), box=box.SIMPLE_HEAD, pad_edge=False)
        for sweep in inside:
            studies = standings(sweep)
            summary.add_row(
                sweep.name, *(str(sum(study.state == state for study in studies) or "") for state in STATES)
            )
        out.print(summary)
        return
    studies = standings(root)
    out.print(f"{root}: {counts(studies)}", markup=False)
    for line in remarks(root):
        out.print(line, markup=False)
    out.print(table(studies))
    if spent := effort(root):
        out.print(spent, markup=False)


def table(studies: list[Standing]) -> Table:
    """A line for each state and reason; where anybody watched, with what monitors said last."""
    watched = any(study.health for study in studies)
    lines = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("", "studies", "which", *(["health"] if watched else []), "why"):
        lines.add_column(name, justify="right" if name == "studies" else "left", overflow="fold", no_wrap=not name)

    def alike(study: Standing) -> tuple[str, ...]:
        return study.state, study.why, study.health or ""

    for (state, why, health), group in groupby(sorted(studies, key=_order), alike):
        members = list(group)
        lines.add_row(state, str(len(members)), which(members), *([health] if watched else []), why)
    return lines


def remarks(root: Path) -> list[str]:
    """What of a sweep's own files is damaged; none of them is needed to know how its studies stand."""
    if records.is_study(root):
        return []
    lines = [f"damaged, {known['damage']}"] if (known := records.sweep(root)) and "damage" in known else []
    packs = [path for path in sorted((root / "packs").glob("*.json")) if path.exists() and not records.read_note(path)]
    return lines + [f"damaged, packs/{path.name}: the note of a pack" for path in packs]


def _order(study: Standing) -> tuple[int, str, str]:
    return STATES.index(study.state), study.why, study.health or ""


def sweeps(root: Path) -> list[Path]:
    """The sweeps of a runs folder; for a sweep or a study, the folder itself."""
    if records.is_study(root) or (root / "sweep.json").exists() or records.begun(root):
        return [root]
    inside = {path.parent for path in root.glob("*/sweep.json")} | {
        path.parents[1] for name in ("study", "result") for path in root.glob(f"*/*/{name}.json")
    }
    if not inside:
        raise BadInput(f"{root}: no records here; give a folder that `windtunnel run` wrote")
    return sorted(inside)

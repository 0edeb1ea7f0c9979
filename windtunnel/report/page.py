"""The report of a sweep: one self-contained HTML file, and its figures as SVG and PDF beside it."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from windtunnel import __version__, records, text
from windtunnel.progress import console
from windtunnel.records.groups import Group, gather, swept_keys
from windtunnel.report import formats
from windtunnel.report.acting import regret_picture
from windtunnel.report.answer import about_recovery, answer, finding, ranked
from windtunnel.report.beliefs import simplex_picture
from windtunnel.report.comparison import sentence
from windtunnel.report.figures import convergence_picture, kl_pictures, learning_picture
from windtunnel.report.geometry import geometry_picture
from windtunnel.report.grid import Grid, grid
from windtunnel.report.health import health_picture
from windtunnel.report.heatmap import heatmap_picture
from windtunnel.report.inside import attention_picture, priors_picture
from windtunnel.report.numbers import length, number
from windtunnel.report.style import Picture, drawn, inline, missing, save
from windtunnel.report.tables import raise_damaged

EXAMPLES = 8  # groups whose attention is shown, at most


class Illustration(NamedTuple):
    """A picture on the page: its section, and one `<svg>`, or two for screens of different widths."""

    picture: Picture
    section: str
    svgs: list[tuple[str, str]]


def report(folders: list[Path]) -> None:
    """Write the report of every folder: `report.html`, and `figures/`."""
    out = console()
    rows = [row for folder in folders for row in records.rows(folder)]  # of all, before the first is written
    damaged = [row for row in rows if row["status"] == "damaged"]
    for folder in folders:
        written = write(folder)
        out.print(f"report in {written[0]}, with {len(written) - 1} figures in {folder / 'figures'}", markup=False)
    if damaged:
        raise_damaged(damaged)


def write(root: Path) -> list[Path]:
    """Write the page and the figures; return their paths, the page first."""
    if records.is_study(root):  # a single study: a group of one
        groups, swept = [Group({"study": root.name}, records.rows(root))], []
        parent = root.parent
    else:
        groups, swept, parent = gather([root]), swept_keys(root), root
    illustrations, files = [], []
    for picture, section in pictures(parent, groups):
        drawing = drawn(picture, picture.wide)
        files += save(picture, root / "figures", drawing=drawing)
        if picture.wide:
            svgs = [("wide", inline(picture, True, drawing)), ("narrow", inline(picture, False))]
        else:
            svgs = [("only", inline(picture, False, drawing))]
        illustrations.append(Illustration(picture, section, svgs))
    page = root / "report.html"
    records.write(page, render(root, parent, groups, swept, illustrations))
    return [page, *files]


def pictures(root: Path, groups: list[Group]) -> Iterable[tuple[Picture, str]]:
    """The pictures that the records allow, each with its section of the page."""
    candidates = [
        *((picture, "main") for picture in kl_pictures(root, groups)),
        (heatmap_picture(groups), "main"),
        (learning_picture(root, groups), "more"),
        (health_picture(root, groups), "more"),
        (convergence_picture(root, groups), "more"),
        (priors_picture(root, groups), "more"),
        (geometry_picture(root, groups), "more"),
        (simplex_picture(root, groups), "more"),
        (regret_picture(root, groups), "more"),
    ]
    best = [group for group in ranked(groups) if group.done]
    candidates += [(attention_picture(root, group), "more" if rank == 0 else "attention")
             for rank, group in enumerate(best[:EXAMPLES])]  # fmt: skip
    return [(picture, section) for picture, section in candidates if picture is not None]


def render(root: Path, parent: Path, groups: list[Group], swept: list[str], illustrations: list[Illustration]) -> str:
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise missing(error) from None
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["whole"] = whole
    sweep = {} if records.is_study(root) else records.sweep(root) or {}
    rows = [row for group in groups for row in group.rows]
    sections = {"main": [], "more": [], "attention": []}
    for illustration in illustrations:
        sections[illustration.section].append(illustration)
    return environment.get_template("page.html.jinja").render(
        name=root.name,
        question=sweep.get("question") or question(root.name),
        answer=answer(groups),
        findings=[finding(group) for group in ranked(groups)],
        sure=sure(groups),
        missing=absent(root, groups, illustrations),
        table=table(grid(str(root), groups, swept)),
        drawn=sections,
        studies=[study(root, parent, row, swept) for row in rows],
        fixed=sorted((records.fixed(root) or _fields(parent, rows)).items()),
        command="\n".join(sweep.get("commands", [])) or command(root, groups, sweep),
        provenance=provenance(parent, rows),
        tolerance=next((row["evaluate"]["tolerance"] for row in rows if row["status"] == "done"), None),
        version=__version__,
    )


def whole(text: str) -> Any:
    """The escaped text, in which no line break can divide a number such as 2.6e-3 at its hyphen."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"[\[-]?\d[\d.]*e-\d+[,\]]*", lambda m: f'<span class="n">{m[0]}</span>', str(escape(text))))


def question(name: str) -> str | None:
    """The question of the preset sweep of this name, for records without one."""
    from windtunnel.presets import folder

    path = folder() / "sweep" / f"{name}.yaml"
    asked = re.search(r"^question: (.*)$", text.read(path), re.M) if path.exists() else None
    return asked[1] if asked else None


def sure(groups: list[Group]) -> list[str]:
    """The comparison of the first two groups in every metric that orders them, and what so few seeds cannot show."""
    best = [group for group in ranked(groups) if group.done]
    sentences = []
    if not about_recovery(groups) and len(best) > 1 and best[0].problem == best[1].problem:
        past = best[0].done[0].get("kl_bits_past") is not None
        measures = [("kl_bits_past", "Past the horizon")] if past else []
        sentences = [
            sentence(best[0], best[1], metric, where) for metric, where in [*measures, ("kl_bits", "In range")]
        ]
    seeds = min((len(group.done) for group in best), default=0)
    if seeds < 3:
        sentences.append(
            "Fewer than 3 seeds somewhere: no interval is shown there, and no order is more than an impression."
        )
    elif seeds < 6:
        sentences.append(f"{seeds} pairs of seeds cannot give p < 0.05, whatever they show: that takes 6.")
    return sentences


def absent(root: Path, groups: list[Group], illustrations: list[Illustration]) -> list[str]:
    """What a reader may miss on the page, and why it is absent."""
    remarks = []
    for group in groups:
        for row in group.rows:
            if row["status"] == "failed":
                remarks.append(f"{row['study_id']} failed: {records.read(root / row['study_id']).why}")
            if row["status"] == "damaged":
                remarks.append(f"{row['study_id']} is damaged: {row['damage']}")
            remarks += [f"left out: {error}" for error in unreadable(root, row)]
    waiting = sum(group.missing.get("waiting", 0) for group in groups)
    if waiting:
        remarks.append(f"{waiting} of {sum(len(group.rows) for group in groups)} studies are not done yet")
    names = {illustration.picture.name.split("-")[0] for illustration in illustrations}
    if all("external" in row for group in groups for row in group.rows):
        return [*remarks, "the inside of the models: they are from outside, and only their predictions are known"]
    hints = {
        "priors": "no learned prior beside the true one: the data have none over lags, or no model an additive one",
        "attention": "no example sequence: judge again (`windtunnel evaluate`) to write one",
        "geometry": f"no key geometry: windtunnel probe {root}",
    }
    return remarks + [text for name, text in hints.items() if name not in names]


def unreadable(root: Path, row: dict[str, Any]) -> list[records.Damaged]:
    """The files of a finished study that pictures would be drawn from, and that are damaged."""
    readers = {"train.jsonl": records.read_learning_curve, "example.npz": records.read_curves}
    readers["probe.json"] = records.read_json
    errors = []
    for name, reader in readers.items():
        path = root / row["study_id"] / name
        if row["status"] == "done" and path.exists():
            try:
                reader(path)
            except records.Damaged as error:
                errors.append(error)
    return errors


def table(content: Grid) -> dict[str, Any]:
    """The head, the lines and the notes of a table for the template; a cell is (text, whether it is the best)."""
    return {"head": formats.head(content), "lines": formats.lines(content, content.columns), "notes": content.notes}


def study(root: Path, parent: Path, row: dict[str, Any], swept: list[str]) -> dict[str, Any]:
    """One row of the list of studies. `parent` holds the folders of the studies, `root` the report."""
    folder = parent / row["study_id"]
    ends = ("result.json", "error.txt", "study.json")
    file = next((name for name in ends if (folder / name).exists()), None)
    return {
        "id": row["study_id"],
        "link": None if file is None else f"{'' if folder == root else row['study_id'] + '/'}{file}",
        "swept": [str(row.get(key, "")) for key in swept],
        "kl": number(row.get("kl_bits")),
        "past": number(row.get("kl_bits_past")),
        "critical": length(row["critical_length"], row["censored"]) if row["status"] == "done" else "",
        "seconds": f"{row['train_seconds']:.0f}" if row.get("train_seconds") else "",
        "verdict": row.get("verdict", row["status"]),
    }


def _fields(parent: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The resolved study of a single record."""
    record = records.read(parent / rows[0]["study_id"]).study
    return records.flatten(record["study"]) if record else {}


def command(root: Path, groups: list[Group], sweep: dict[str, Any]) -> str:
    """A command that reproduces these records, from their fields; for records without the original command."""
    outside = [row for group in groups for row in group.rows if "external" in row]
    if outside:
        words = [f"name={row['model']} seed={row['seed']}" for row in outside]
        return "\n".join(f"windtunnel judge PROBLEM PREDICTIONS {word}" for word in words)
    keys = {key: list(dict.fromkeys(point["overrides"][key] for point in sweep["points"] if key in point["overrides"]))
            for key in swept_keys(root)} if sweep else {}  # fmt: skip
    fixed = sweep.get("fixed") or _fields(root.parent, groups[0].rows)
    given = {key.removesuffix(".name"): value for key, value in fixed.items() if value is not None}
    named = {key: value for key, value in given.items() if f"{key}.name" in fixed and key.count(".") == 0}
    prior = {"prior": given["tunnel.prior"]} if "tunnel.prior" in given else {}
    rest = {key: value for key, value in given.items() if key not in named and key != "tunnel.prior"}
    words = [
        f"{key}={_typed(value)}" for key, value in {**named, **prior, **rest}.items() if not isinstance(value, list)
    ]
    words += [f"{key}={','.join(values)}" for key, values in keys.items()]
    return " ".join(["windtunnel run" + (" -m" if keys else ""), *words])


def _typed(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def provenance(parent: Path, rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Versions, devices and revisions of the code, with every value where studies differ; and the training time."""
    values_of: dict[str, dict[str, None]] = {}
    for row in rows:
        record = records.read(parent / row["study_id"]).study or {}
        facts = {**record.get("versions", {}), "revision": record.get("git")}
        if device := record.get("device"):
            facts["device"] = f"{device.get('count')} × {device.get('kind')} ({device.get('platform')})"
        for name, value in facts.items():
            if value is not None:
                values_of.setdefault(name, {})[str(value)] = None
    times = [row["train_seconds"] for row in rows if row.get("train_seconds")]
    total = [("training, all studies", f"{sum(times):.0f} s")] if times else []
    return [(name, ", ".join(values)) for name, values in values_of.items()] + total

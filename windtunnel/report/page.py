"""The report of a sweep: one HTML file that needs nothing else, and its figures as SVG and PDF beside it."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from windtunnel import __version__, records
from windtunnel.progress import console
from windtunnel.records.groups import Group, gather, swept_keys
from windtunnel.report import formats
from windtunnel.report.answer import about_recovery, answer, finding, ranked
from windtunnel.report.comparison import sentence
from windtunnel.report.figures import convergence_picture, kl_pictures, learning_picture
from windtunnel.report.geometry import geometry_picture
from windtunnel.report.grid import Grid, grid
from windtunnel.report.heatmap import heatmap_picture
from windtunnel.report.inside import attention_picture, priors_picture
from windtunnel.report.numbers import length, number
from windtunnel.report.style import Picture, inline, missing, save

EXAMPLES = 8  # groups whose attention is shown, at most


def report(folders: list[Path]) -> None:
    """Write the report of every folder: `report.html`, and `figures/`."""
    out = console()
    for folder in folders:
        written = write(folder)
        out.print(f"report in {written[0]}, with {len(written) - 1} figures in {folder / 'figures'}", markup=False)


def write(root: Path) -> list[Path]:
    """The paths of what was written, the page first."""
    if (root / "study.json").exists():  # of a single study, which is a group of one
        groups, swept = [Group({"study": root.name}, records.rows(root))], []
        place = root.parent
    else:
        groups, swept, place = gather([root]), swept_keys(root), root
    found = list(pictures(place, groups))
    files = [path for picture, _ in found for path in save(picture, root / "figures")]
    page = root / "report.html"
    records.write(page, render(root, place, groups, swept, found))
    return [page, *files]


def pictures(root: Path, groups: list[Group]) -> Iterable[tuple[Picture, str]]:
    """Those that the records allow, each with the section where it stands."""
    made = [
        *((picture, "main") for picture in kl_pictures(root, groups)),
        (heatmap_picture(groups), "main"),
        (learning_picture(root, groups), "more"),
        (convergence_picture(root, groups), "more"),
        (priors_picture(root, groups), "more"),
        (geometry_picture(root, groups), "more"),
    ]
    best = [group for group in ranked(groups) if group.done]
    made += [(attention_picture(root, group), "more" if place == 0 else "attention")
             for place, group in enumerate(best[:EXAMPLES])]  # fmt: skip
    return [(picture, section) for picture, section in made if picture is not None]


def render(root: Path, place: Path, groups: list[Group], swept: list[str], found: list[tuple[Picture, str]]) -> str:
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise missing(error) from None
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["whole"] = whole
    sweep = records.read_json(root / "sweep.json") if (root / "sweep.json").exists() else {}
    rows = [row for group in groups for row in group.rows]
    drawn = {"main": [], "more": [], "attention": []}
    for picture, section in found:
        svgs = [(kind, inline(picture, kind == "wide")) for kind in (("wide", "narrow") if picture.wide else ("only",))]
        drawn[section].append({"picture": picture, "svgs": svgs})
    return environment.get_template("page.html.jinja").render(
        name=root.name,
        question=sweep.get("question") or question(root.name),
        answer=answer(groups),
        findings=[finding(group) for group in ranked(groups)],
        sure=sure(groups),
        missing=absent(root, groups, found),
        table=table(grid(str(root), groups, swept)),
        drawn=drawn,
        studies=[study(root, place, row, swept) for row in rows],
        fixed=sorted((records.fixed(root) or _fields(place, rows)).items()),
        command="\n".join(sweep.get("commands", [])) or command(root, groups, sweep),
        provenance=provenance(place, rows),
        tolerance=next((row["evaluate"]["tolerance"] for row in rows if row["status"] == "done"), None),
        version=__version__,
    )


def whole(text: str) -> Any:
    """Escaped, with numbers such as 2.6e-3 kept from being broken at their hyphen."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"[\[-]?\d[\d.]*e-\d+[,\]]*", lambda m: f'<span class="n">{m[0]}</span>', str(escape(text))))


def question(name: str) -> str | None:
    """What the named sweep of this name asks, where records do not say."""
    from windtunnel.presets import folder

    path = folder() / "sweep" / f"{name}.yaml"
    asked = re.search(r"^question: (.*)$", path.read_text(), re.M) if path.exists() else None
    return asked[1] if asked else None


def sure(groups: list[Group]) -> list[str]:
    """How sure the order of the first two is, in every measure that decides; and what so few seeds cannot show."""
    best = [group for group in ranked(groups) if group.done]
    said = []
    if not about_recovery(groups) and len(best) > 1 and best[0].problem == best[1].problem:
        past = best[0].done[0].get("kl_bits_past") is not None
        measures = [("kl_bits_past", "Past the horizon")] if past else []
        said = [sentence(best[0], best[1], metric, where) for metric, where in [*measures, ("kl_bits", "In range")]]
    seeds = min((len(group.done) for group in best), default=0)
    if seeds < 3:
        said.append(
            "Fewer than 3 seeds somewhere: no interval is shown there, and no order is more than an impression."
        )
    elif seeds < 6:
        said.append(f"{seeds} pairs of seeds cannot give p < 0.05, whatever they show: that takes 6.")
    return said


def absent(root: Path, groups: list[Group], found: list[tuple[Picture, str]]) -> list[str]:
    """What a reader might look for and will not find, and why."""
    said = []
    for group in groups:
        for row in group.rows:
            if row["status"] == "failed":
                why = (root / row["study_id"] / "error.txt").read_text().splitlines()
                said.append(f"{row['study_id']} failed: {why[0] if why else 'no reason given'}")
    waiting = sum(group.missing.get("waiting", 0) for group in groups)
    if waiting:
        said.append(f"{waiting} of {sum(len(group.rows) for group in groups)} studies are not done yet")
    names = {picture.name.split("-")[0] for picture, _ in found}
    if all("external" in row for group in groups for row in group.rows):
        return [*said, "what is inside of the models: they are from outside, and only what they predict is known"]
    hints = {
        "priors": "no learned prior beside the true one: the data have none over lags, or no model an additive one",
        "attention": "no example sequence: judge again (`windtunnel evaluate`) to write one",
        "geometry": f"no key geometry: windtunnel probe {root}",
    }
    return said + [text for name, text in hints.items() if name not in names]


def table(made: Grid) -> dict[str, Any]:
    """Head and cells, as the template takes them; a cell is (text, best, wide)."""
    return {"head": formats.head(made), "lines": formats.lines(made, made.columns), "notes": made.notes}


def study(root: Path, place: Path, row: dict[str, Any], swept: list[str]) -> dict[str, Any]:
    """One line of the list of records."""
    folder = place / row["study_id"]
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


def _fields(place: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The resolved study of a single record."""
    path = place / rows[0]["study_id"] / "study.json"
    return records.flatten(records.read_json(path)["study"]) if path.exists() else {}


def command(root: Path, groups: list[Group], sweep: dict[str, Any]) -> str:
    """What makes these records again, field by field: of records that do not say what was typed."""
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


def provenance(place: Path, rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Versions, device and revision of the code; where studies differ, all of what they say."""
    said: dict[str, dict[str, None]] = {}
    for row in rows:
        path = place / row["study_id"] / "study.json"
        record = records.read_json(path) if path.exists() else {}
        facts = {**record.get("versions", {}), "revision": record.get("git")}
        if device := record.get("device"):
            facts["device"] = f"{device.get('count')} × {device.get('kind')} ({device.get('platform')})"
        for name, value in facts.items():
            if value is not None:
                said.setdefault(name, {})[str(value)] = None
    times = [row["train_seconds"] for row in rows if row.get("train_seconds")]
    total = [("training, all studies", f"{sum(times):.0f} s")] if times else []
    return [(name, ", ".join(values)) for name, values in said.items()] + total

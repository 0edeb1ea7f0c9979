"""`make next`: run `+sweep=next` cell by cell, and fill docs/next.md: python scripts/next.py [section …] [--minutes 90]

A cell is a model on a tunnel, from five seeds, trained on the exact posterior and, where it says so, on drawn outcomes
alone. What says most comes first; what does not begin within so many minutes is a row `not run`; what is done is not
run again. A new section of the page is a line in SECTIONS, and its cells are lines in CELLS.
"""

import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import page
from windtunnel import records
from windtunnel.records.groups import Group, groups
from windtunnel.report import figures, style
from windtunnel.report.numbers import lengths, number, with_interval
from windtunnel.report.probe import headline, mean

RUNS, DOC, MINUTES = Path("runs/next"), Path("docs/next.md"), 90.0
FIVE = "1,2,3,4,5"  # seed 0 chose between models
HEAD = ["model", "KL in range", "KL past", "on samples", "past", "holds to", "verdict", "parameters", "seconds"]
BOTH = "train.supervision=posterior,sample"


class Section(NamedTuple):
    """A part of the page: the overrides of its tunnel, the baselines that its figure shows, and the instruments that
    look into what was trained.
    """

    overrides: list[str]
    baselines: list[str]
    instruments: tuple[str, ...] = ()


class Cell(NamedTuple):
    """A model in a section, by the name of its row."""

    section: str
    name: str
    overrides: list[str]
    seeds: str = FIVE

    @property
    def root(self) -> Path:
        return RUNS / self.section / re.sub(r"[^a-z0-9.]+", "-", self.name.lower()) / "next"

    @property
    def rows(self) -> list[records.Json]:
        return records.rows(self.root) if (self.root / "sweep.json").exists() else []

    @property
    def whole(self) -> bool:
        return bool(self.rows) and all(row["status"] == "done" for row in self.rows)

    def by(self, supervision: str) -> Group | None:
        """Its studies of one supervision, where any is done."""
        done = [row for row in self.rows if row["status"] == "done" and row["supervision"] == supervision]
        return groups(done, ["tunnel"])[0] if done else None

    @property
    def probed(self) -> list[Path]:
        """The folders of studies on the exact posterior that instruments have looked into."""
        group = self.by("posterior")
        folders = [self.root / row["study_id"] for row in group.done] if group is not None else []
        return [folder for folder in folders if (folder / "probe.json").exists()]

    def run(self) -> None:
        """The exact posterior first, unless the cell says more."""
        own = [] if BOTH in self.overrides else ["train.supervision=posterior"]
        words = ["windtunnel", "run", "+sweep=next", *SECTIONS[self.section].overrides, *own, *self.overrides]
        subprocess.run([*words, f"seed={self.seeds}", f"runs={self.root.parent}"], check=False)
        if instruments := SECTIONS[self.section].instruments:
            subprocess.run(["windtunnel", "probe", str(self.root), *instruments], check=False)


SECTIONS = {
    "adaptive": Section(["tunnel=recall_adaptive"], ["static", "cues-8", "cues-horizon"]),
    "slow": Section(["tunnel=recall_adaptive_slow"], ["static", "cues-8", "cues-horizon"]),
    "change": Section(["tunnel=switching"], ["no-switch", "forgetting-8", "static", "last-horizon"]),
    "fusion": Section(
        ["tunnel=fusion", "train.steps=1500"], ["A", "better", "blind", "last-horizon"], ("channels", "calibration")
    ),
    "uncertainty": Section(["tunnel=recall"], ["content-only", "last-horizon"], ("calibration",)),
    "die": Section(["tunnel=die", "evaluate.reach=16"], ["last-horizon"], ("calibration",)),
}
WIDTH = ["model.heads=3", "model.width=48", "model.hidden=96"]
NARROW = ["model=transformer", *WIDTH]
LINEAR = ["model=transformer", "model.hidden=256"]
LONGER = "train.steps=5000"
CELLS = [
    Cell("adaptive", "heads weighed by evidence, 1 layer", ["model=evidence", BOTH]),
    Cell("adaptive", "a prior per head, 2 layers", [*NARROW, "model.layers=2", "position=scales", BOTH]),
    Cell("change", "BAM, 3 layers", ["model=small", "position=bam", BOTH]),
    Cell("change", "GRU, 2 layers", ["model=gru", "model.layers=2", "model.width=48"]),
    Cell("slow", "heads weighed by evidence, 1 layer", ["model=evidence"]),
    Cell("adaptive", "a prior per head, 1 layer", [*NARROW, "position=scales"]),
    Cell("adaptive", "a prior per head, 3 layers", [*NARROW, "model.layers=3", "position=scales"]),
    Cell("change", "ALiBi, 3 layers", ["model=small", "position=alibi"]),
    Cell("adaptive", "BAM, 2 layers", [*NARROW, "model.layers=2", "position=bam"]),
    Cell("adaptive", "a learned gate, 2 layers",
         [*NARROW, "model.layers=2", "position=scales", "model.router={groups: 3}"]),
    Cell("slow", "a prior per head, 2 layers", [*NARROW, "model.layers=2", "position=scales"]),
    Cell("adaptive", "a prior per head, 2 layers, twice the horizon",
         [*NARROW, "model.layers=2", "position=scales", "train.horizon=128", "evaluate.reach=8"]),
    Cell("fusion", "gated embedding, 1 layer", ["model=gated", BOTH]),
    Cell("fusion", "linear embedding, 1 layer", [*LINEAR, "model.layers=1"]),
    Cell("fusion", "linear embedding, 2 layers", [*LINEAR, "model.layers=2", BOTH]),
    Cell("uncertainty", "generalized Gaussian", ["position=generalized_gaussian", BOTH]),
    Cell("uncertainty", "no position", ["position=uniform"]),
    Cell("uncertainty", "RoPE", ["position=rope"]),
    Cell("die", "no position", ["position=uniform", BOTH]),
    Cell("uncertainty", "ALiBi", ["position=alibi"]),
    Cell("fusion", "linear embedding, 3 layers", [*LINEAR, "model.layers=3"]),
    Cell("fusion", "gated embedding, 2 layers", ["model=gated", "model.layers=2"]),
    Cell("die", "ALiBi", ["position=alibi"]),
    Cell("change", "GRU, 2 layers, 5,000 steps", ["model=gru", "model.layers=2", "model.width=48", LONGER]),
    Cell("change", "BAM, 3 layers, 5,000 steps", ["model=small", "position=bam", LONGER]),
    Cell("adaptive", "a prior per head, 2 layers, 5,000 steps",
         [*NARROW, "model.layers=2", "position=scales", LONGER]),
]  # fmt: skip


def train(until: float, sections: set[str]) -> None:
    for cell in CELLS:
        if cell.section in sections and time.monotonic() < until and not cell.whole:
            cell.run()


def line(cell: Cell) -> list[str]:
    posterior, sample = cell.by("posterior"), cell.by("sample")
    if posterior is None:
        return [cell.name, *page.not_run(len(HEAD) - 1)]
    pairs = [
        with_interval(group.interval(name)) if group is not None else ""
        for group in (posterior, sample)
        for name in ("kl_bits", "kl_bits_past")
    ]
    done = posterior.done
    seconds = np.mean([row["train_seconds"] for row in done])
    return [cell.name, *pairs, lengths(posterior, "critical_length"), posterior.verdict,
            f"{done[0]['parameters']:,}", f"{seconds:.0f}"]  # fmt: skip


def cells(section: str) -> list[Cell]:
    return [cell for cell in CELLS if cell.section == section]


def facts(section: str) -> str:
    """What was asked, and what every baseline says of it, on fresh sequences."""
    found = [(cell, group) for cell in cells(section) if (group := cell.by("posterior")) is not None]
    if not found:
        return "Not run."
    cell, group = found[0]
    row = group.done[0]
    gaps = records.read_result(cell.root / row["study_id"])["baselines"]
    lesser = "; ".join(
        f"`{name}` {number(gap['kl_bits'])}, {number(gap['kl_bits_past'])}"
        for name, gap in sorted(gaps.items(), key=lambda pair: -(pair[1]["kl_bits_past"] or 0))
    )
    return (
        f"Horizon {row['horizon']}, judged to {row['horizon'] * row['reach']:,.0f} observations on "
        f"{row['evaluate']['examples']} sequences; {row['steps']:,} steps of 32; τ = {row['evaluate']['tolerance']:g}. "
        f"Exact reasoners that know less, or more (`oracle`), KL in range and past: {lesser}."
    )


def looked(section: str) -> str:
    """What the instruments of a section say of each cell, trained on the exact posterior: means over seeds."""
    tables = []
    for name in SECTIONS[section].instruments:
        lines: list[list[str]] = []
        columns: list[str] = []
        for cell in cells(section):
            found = [headline(folder, name) for folder in cell.probed]
            if found and any(found):
                columns = columns or list(found[0])
                means = (mean([of.get(column) for of in found]) for column in columns)
                lines.append([cell.name, *means])
        if lines:
            head = [f"`{name}`", *(column.replace("_", " ") for column in columns)]
            tables.append(page.table(head, lines, range(1, len(head))))
    return "".join(f"\n\n{table}" for table in tables)


def confidence(section: str) -> str:
    """The R² with which the exact entropy is read off attention, beside position alone and an untrained model's; and
    where it is closed, what an outcome says about the next (bits): the model's, the exact reasoner's.
    """
    parts = [("position", "position alone"), ("untrained", "untrained"), ("entropy", "entropy of attention"),
             ("largest", "largest weight")]  # fmt: skip
    places = {"in_range": "", "past": ", past"}
    head = ["read off", *(f"{words}{end}" for end in places.values() for _, words in parts)]
    lines = []
    for cell in cells(section):
        records_of = (records.read_json(folder / "probe.json") for folder in cell.probed)
        found = [of for record in records_of if (of := record.get("calibration"))]
        if not found or any(of[place]["attention"] is None for of in found for place in places):
            continue
        line = [mean([of[place]["attention"][name] for of in found]) for place in places for name, _ in parts]
        steps = [of["two_step"] for of in found if of["two_step"]]
        line += [mean([float(np.mean(step[who])) for step in steps]) for who in ("model", "exact") if steps]
        lines.append([cell.name, *line])
    if lines and len(lines[0]) > len(head):
        head += ["epistemic", "exact's"]
    return f"\n\n{page.table(head, lines, range(1, len(head)))}" if lines else ""


def draw(section: str, figure: Any, wide: bool) -> None:
    """KL against position, a line for each cell: geometric means over seeds, and their intervals."""
    axes = figure.subplots()
    drawn = [(cell, group) for cell in cells(section) if (group := cell.by("posterior")) is not None]
    first = figures.curves(drawn[0][0].root, drawn[0][1].done[0])
    for index, (cell, group) in enumerate(drawn):
        curves = figures.alike([figures.curves(cell.root, row) for row in group.done])
        x, look = figures.middle(curves[0]) / group.done[0]["horizon"], style.look(index)
        mean, low, high = figures.over_seeds(np.asarray([curve["kl_bits"] for curve in curves]))
        axes.plot(x, mean, label=style.label(cell.name), markevery=max(1, len(x) // 10), **look)
        axes.fill_between(x, low, high, color=look["color"], alpha=0.2, lw=0)
    for name, dash in zip(SECTIONS[section].baselines, ("--", ":", "-.", (0, (1, 4))), strict=False):
        gap, x = first[f"baseline/{name}"], figures.middle(first) / drawn[0][1].done[0]["horizon"]
        axes.plot(x, np.where(gap > figures.FLOOR, gap, np.nan), color=style.SOFT, ls=dash, lw=1.1, label=name)
    axes.axhline(drawn[0][1].done[0]["evaluate"]["tolerance"], color=style.INK, lw=0.8)
    figures.mark_horizon(axes)
    axes.set(xscale="log", yscale="log", xlabel="position ÷ horizon", ylabel="KL(exact ‖ model), bits")
    axes.set_ylim(bottom=max(axes.get_ylim()[0], 1e-5))
    figures.plain_ticks(axes)
    figures.legend(figure, wide)


def main() -> None:
    minutes = float(sys.argv[sys.argv.index("--minutes") + 1]) if "--minutes" in sys.argv else MINUTES
    train(time.monotonic() + 60 * minutes, set(SECTIONS) & set(sys.argv) or set(SECTIONS))
    for section in SECTIONS:
        table = page.table(HEAD, [line(cell) for cell in cells(section)], [1, 2, 3, 4, 5, 7, 8])
        shown = ""
        if any(cell.by("posterior") for cell in cells(section)):
            picture = style.Picture(f"next-{section}", section, "", partial(draw, section), wide=True)
            (path,) = style.save(picture, DOC.parent, ["svg"])
            shown = f"\n\n![KL against position ÷ horizon: {section}]({path.name})"
        page.fill(DOC, section, f"{facts(section)}\n\n{table}{looked(section)}{confidence(section)}{shown}")


if __name__ == "__main__":
    main()

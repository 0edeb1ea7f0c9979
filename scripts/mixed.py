"""`make mixed`: run `+sweep=mixed` row by row, then fill docs/mixed.md: python scripts/mixed.py [--minutes 90]

A row is an answer to the conflict: a positional prior, a router, experts, a loss that separates. What does not begin
within so many minutes is a row `not run`; what is done is not run again. The rows that matter most come first.
"""

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import page
from windtunnel import records
from windtunnel.records.alone import interference
from windtunnel.records.statistics import interval, mean_interval
from windtunnel.report.numbers import number, with_interval

RUNS, DOC, MINUTES = Path("runs/mixed"), Path("docs/mixed.md"), 90.0
TUNNELS = {
    "unmarked": ["tunnel=mixture_conflict"],
    "marked": ["tunnel=mixture_conflict_marked"],
    "runs": [
        "tunnel=mixture_conflict_runs",
        "evaluate.reach=16",
    ],  # exact at the square of the length
    "three": ["tunnel=mixture_conflict_three"],
    "die": ["tunnel=conflict_die"],
    "echo": ["tunnel=conflict_echo"],
}
DOMAINS = ("die", "echo")
HEADS, ROUTER = "position=conflict_heads", "model.router={groups: 2}"
TAUGHT = [HEADS, ROUTER, "+term=domain", "train.terms.domain.strength=0,0.1"]
EXPERTS = ["model=experts"]
THREE = "model.positions=[{name: uniform}, {name: generalized_gaussian, scale: 3.0, beta: 1.0}, {name: alibi}]"
FIVE, ONE, STRENGTHS = "0,1,2,3,4", "0", "0,0.01,0.1,1"
HEAD = ["answer", "die", "echo", "die past", "echo past", "die holds τ past", "interference", "parameters", "seconds"]


class Row(NamedTuple):
    """An answer on a tunnel, with its overrides, from these seeds."""

    tunnel: str
    name: str
    overrides: list[str]
    seeds: str = FIVE

    @property
    def root(self) -> Path:
        return RUNS / self.tunnel / re.sub(r"[^a-z0-9.]+", "-", self.name.lower()) / "mixed"

    def run(self) -> None:
        model = [] if any(word.startswith("model=") for word in self.overrides) else ["model=small"]
        words = ["windtunnel", "run", "+sweep=mixed", *TUNNELS[self.tunnel], *model, *self.overrides]
        subprocess.run([*words, f"seed={self.seeds}", f"runs={self.root.parent}"], check=False)

    @property
    def whole(self) -> bool:
        return (self.root / "sweep.json").exists() and len(self.done) == len(records.rows(self.root))

    @property
    def done(self) -> list[records.Json]:
        rows = records.rows(self.root) if (self.root / "sweep.json").exists() else []
        return [row for row in rows if row["status"] == "done"]


PRIORS = {
    "conflict_heads": "per head",
    "bam": "BAM",
    "uniform": "uniform",
    "alibi": "ALiBi",
    "conflict_near": "generalized Gaussian",
    "conflict_layers": "per layer",
}


def switching(tunnel: str) -> list[str]:
    """Where experts may take over from one another."""
    return {"marked": ["model.switching=at_starts"], "runs": ["model.switching=anywhere"]}.get(tunnel, [])


def rows() -> list[Row]:
    """The most important first. One run trains an answer and its control where a number tells them apart."""
    experts = {t: ["model=experts", *switching(t)] for t in TUNNELS}
    both = "model.annealing=0.5,0"
    every, some = (f"position={','.join(names)}" for names in (PRIORS, list(PRIORS)[:2]))
    return [
        Row("unmarked", "experts", [*experts["unmarked"], both]),
        Row("unmarked", "priors", [every]),
        Row("unmarked", "router", TAUGHT),
        *(Row(domain, "experts", EXPERTS) for domain in DOMAINS),
        Row("runs", "experts", experts["runs"]),
        Row("marked", "experts", experts["marked"]),
        *separation()[:1],
        *(Row(domain, "priors", [some]) for domain in DOMAINS),
        Row("marked", "priors", [some]),
        Row("runs", "priors", [some]),
        Row("unmarked", "router not routed", [HEADS, "model.router={groups: 2, routed: false}", *TAUGHT[2:]]),
        Row("unmarked", "router shuffled", [*TAUGHT, "train.terms.domain.shuffled=true"]),
        *separation()[1:],
        Row("unmarked", "three experts", [*EXPERTS, THREE]),
        Row("unmarked", "experts of equal priors", [*EXPERTS, "model.positions=[{name: bam}, {name: bam}]"]),
        Row("three", "three experts", [*EXPERTS, THREE]),
        Row("three", "priors", [some]),
        *(Row(tunnel, "router", TAUGHT) for tunnel in ("marked", "runs")),
    ]


def separation() -> list[Row]:
    """Widths × controls, each with every strength, from one seed; strength 0 is the model without the term."""
    each = []
    for of in ("domains", "shuffled", "subspaces"):
        for width in (32, 16, 8):
            shape = [f"model.width={width}", f"model.hidden={2 * width}"]
            term = [
                "+term=separation",
                f"train.terms.separation.of={of}",
                f"train.terms.separation.strength={STRENGTHS}",
            ]
            each.append(Row("unmarked", f"separation {of} width {width}", ["position=bam", *shape, *term], ONE))
    return each


def probe(row: Row) -> None:
    """What the gate is; where domains are to be kept apart, how they overlap."""
    kind = next((name for name in ("separation", "experts", "router") if name in row.name), None)
    if kind is not None and row.tunnel not in DOMAINS:
        instrument = "geometry" if kind == "separation" else "routing"
        subprocess.run(["windtunnel", "probe", str(row.root), instrument], check=False)


def train(until: float) -> None:
    for row in rows():
        if time.monotonic() < until and not row.whole:
            row.run()
            probe(row)


def variants(row: Row) -> dict[str, list[records.Json]]:
    """The studies of a row by the answer's name, which says by what number they differ."""
    named: dict[str, list[records.Json]] = {}
    for study in row.done:
        typed = study["study"]
        annealing = typed["model"].get("annealing", 0.5)
        strengths = [term["strength"] for term in typed["train"].get("terms", {}).values()]
        ends = [", not annealed"] if not annealing else [f", λ = {strength:g}" for strength in strengths]
        name = PRIORS[study["overrides"]["position"]] if row.name == "priors" else row.name
        named.setdefault(name + "".join(ends), []).append(study)
    return named


def lines(row: Row) -> list[list[str]]:
    """A line for each answer of a row; what has not run stands there too."""
    known = variants(row)
    wanted = [PRIORS[name] for name in row.overrides[0].partition("=")[2].split(",")] if row.name == "priors" else []
    names = [*known, *(name for name in wanted or [row.name] * (not known) if name not in known)]
    nothing = page.not_run(len(HEAD) - 1)
    return [line(row, name, known[name]) if name in known else [name, *nothing] for name in names]


def line(row: Row, name: str, done: list[records.Json]) -> list[str]:
    cells = []
    for which in ("kl_bits", "kl_bits_past"):
        for domain in range(2):
            cells.append(with_interval(interval([study["domains"][domain][which] for study in done])))
    tolerance = done[0]["evaluate"]["tolerance"]
    held = sum(study["domains"][0]["kl_bits_past"] <= tolerance for study in done)
    gaps = [gap["interference_bits"] for gap in (against_alone(row, study) for study in done)]
    between = "" if None in gaps else signed(mean_interval(gaps))
    seconds = np.mean([study["train_seconds"] for study in done])
    return [name, *cells, f"{held} of {len(done)}", between, f"{done[0]['parameters']:,}", f"{seconds:.0f}"]


def plus(bits: float) -> str:
    return f"{'−' if bits < 0 else '+'}{number(abs(bits))}"


def signed(of: Any) -> str:
    return f"{plus(of.mean)} [{plus(of.low)}, {plus(of.high)}]"


def against_alone(row: Row, study: records.Json) -> dict[str, Any]:
    """The interference of a study, whose counterparts are in folders of their own."""
    others = [other for domain in DOMAINS for other in Row(domain, row.name, []).done]
    return interference(study, others)


def facts(tunnel: str) -> str:
    done = [study for row in rows() if row.tunnel == tunnel for study in row.done]
    if not done:
        return "Not run."
    one = done[0]
    gaps = "; ".join(
        f"{name} {number(of['headroom_bits'])} in range, {number(of['headroom_bits_past'])} past"
        for name, of in zip(DOMAINS, one["domains"], strict=False)
    )
    return (
        f"Horizon {one['horizon']}, judged to {one['reach']:g} horizons on {one['evaluate']['examples']} sequences; "
        f"{one['steps']} steps; τ = {one['evaluate']['tolerance']:g}. Headroom by domain, bits: {gaps}."
    )


def gates() -> str:
    """What `windtunnel probe` says of every gate, from the records of the instrument `routing`."""
    head = ["answer", "gate from posterior", "past", "uniform", "untrained", "Δ exact", "Δ uniform", "Δ shuffled",
            "Δ flipped"]  # fmt: skip
    table: list[list[str]] = []
    for row in rows():
        for name, studies in variants(row).items():
            paths = [row.root / study["study_id"] / "probe.json" for study in studies]
            probes = [records.read_json(path).get("routing") for path in paths if path.exists()]
            probes = [probe for probe in probes if probe and "gate" in probe]
            if not probes:
                continue
            asked = ("gate", "in_range"), ("gate", "past"), ("uniform", "in_range"), ("untrained", "in_range")
            gaps = [interval([probe[null][place] for probe in probes]).mean for null, place in asked]
            effects = [
                np.mean([probe["replaced"][other]["past"]["bits"] for probe in probes])
                for other in ("exact", "uniform", "shuffled", "flipped")
            ]
            table.append([f"{name} ({row.tunnel})", *map(number, gaps), *map(plus, effects)])
    return page.table(head, table, range(1, len(head))) if table else "Not run."


def grid() -> str:
    """KL in each domain, in range and past, of the separation loss, and how much the domains' states overlap."""
    head = ["of", "width", "strength", "die", "echo", "die past", "echo past", "alike", "overlap", "chance", "centroid"]
    lines = []
    for row in separation():
        _, of, _, width = row.name.split()
        for study in row.done:
            values = [study["domains"][d][which] for which in ("kl_bits", "kl_bits_past") for d in range(2)]
            path = row.root / study["study_id"] / "probe.json"
            apart = (records.read_json(path).get("geometry") or {}).get("domains") if path.exists() else None
            values += [apart["subspaces"][name] for name in ("alike", "overlap", "chance")] if apart else [None] * 3
            values.append(apart["separation"] if apart else None)
            strength = study["study"]["train"]["terms"]["separation"]["strength"]
            lines.append([of, width, f"{strength:g}", *map(number, values)])
        if not row.done:
            lines.append([of, width, "", *page.not_run(8)])
    return page.table(head, lines, range(1, len(head)))


def main() -> None:
    minutes = float(sys.argv[sys.argv.index("--minutes") + 1]) if "--minutes" in sys.argv else MINUTES
    train(time.monotonic() + 60 * minutes)
    for tunnel in ("unmarked", "marked", "runs", "three"):
        wanted = [row for row in rows() if row.tunnel == tunnel and not row.name.startswith("separation")]
        table = page.table(HEAD, [cells for row in wanted for cells in lines(row)], range(1, len(HEAD)))
        page.fill(DOC, tunnel, f"{facts(tunnel)}\n\n{table}")
    page.fill(DOC, "gates", gates())
    page.fill(DOC, "separation", grid())


if __name__ == "__main__":
    main()

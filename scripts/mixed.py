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
TAUGHT = [HEADS, ROUTER, "+term=domain", "train.terms.domain.strength=0.1"]
EXPERTS = ["model=experts"]
NEAR = "{name: generalized_gaussian, scale: 3.0, beta: 1.0}"
FIVE, ONE = "0,1,2,3,4", "0"
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
    def done(self) -> list[records.Json]:
        rows = records.rows(self.root) if (self.root / "sweep.json").exists() else []
        return [row for row in rows if row["status"] == "done"]


PRIORS = {
    "uniform": ["position=uniform"],
    "generalized Gaussian": ["position=generalized_gaussian", "position.scale=3", "position.beta=1"],
    "ALiBi": ["position=alibi"],
    "BAM": ["position=bam"],
    "per layer": ["position=conflict_layers"],
    "per head": [HEADS],
}


def switching(tunnel: str) -> list[str]:
    """Where experts may take over from one another."""
    return {"marked": ["model.switching=at_starts"], "runs": ["model.switching=anywhere"]}.get(tunnel, [])


def rows() -> list[Row]:
    """The most important first."""
    experts = {t: [*EXPERTS, *switching(t)] for t in TUNNELS}
    first = [Row("unmarked", name, overrides) for name, overrides in PRIORS.items()]
    first += [Row("unmarked", "experts", experts["unmarked"])]
    first += [Row("unmarked", "experts, not annealed", [*experts["unmarked"], "model.annealing=0"])]
    first += [Row("unmarked", "router", [HEADS, ROUTER]), Row("unmarked", "router, taught", TAUGHT)]
    alone = [Row(domain, name, overrides) for name, overrides in (("per head", [HEADS]), ("experts", EXPERTS))
             for domain in DOMAINS]  # fmt: skip
    for tunnel in ("runs", "marked"):
        alone += [Row(tunnel, name, PRIORS[name]) for name in ("BAM", "per head")]
        alone += [Row(tunnel, "experts", experts[tunnel])]
    controls = [
        Row("unmarked", "router, taught, not routed", [*TAUGHT[:1], "model.router={groups: 2, routed: false}",
                                                      *TAUGHT[2:]]),
        Row("unmarked", "router, taught another's", [*TAUGHT, "train.terms.domain.shuffled=true"]),
        Row("unmarked", "router, λ = 0", [*TAUGHT[:3], "train.terms.domain.strength=0"]),
    ]  # fmt: skip
    uniform, near = "{name: uniform}", NEAR
    more = [
        Row("unmarked", "three experts", [*EXPERTS, f"model.positions=[{uniform}, {near}, {{name: alibi}}]"]),
        Row("unmarked", "experts of equal priors", [*EXPERTS, "model.positions=[{name: bam}, {name: bam}]"]),
        Row("three", "three experts", [*EXPERTS, f"model.positions=[{uniform}, {near}, {{name: alibi}}]"]),
        Row("three", "BAM", PRIORS["BAM"]),
    ]
    return [*first, *alone, *controls, *separation(), *more, *rest(experts)]


def rest(experts: dict[str, list[str]]) -> list[Row]:
    """What remains of answers × tunnels."""
    every = []
    for tunnel in ("marked", "runs"):
        every += [Row(tunnel, name, of) for name, of in PRIORS.items() if name not in ("BAM", "per head")]
        every += [Row(tunnel, "experts, not annealed", [*experts[tunnel], "model.annealing=0"])]
        every += [Row(tunnel, "router", [HEADS, ROUTER]), Row(tunnel, "router, taught", TAUGHT)]
    return every + [Row(domain, name, PRIORS[name]) for name in ("BAM", "ALiBi", "uniform") for domain in DOMAINS]


def separated(width: int, strength: str, of: str = "domains") -> Row:
    term = ["+term=separation", f"train.terms.separation.strength={strength}", f"train.terms.separation.of={of}"]
    shape = [f"model.width={width}", f"model.hidden={2 * width}"]
    return Row("unmarked", f"separation {of} {strength} width {width}", [PRIORS["BAM"][0], *shape, *term], ONE)


def separation() -> list[Row]:
    """Strengths × widths × controls, one seed each; strength 0 is the same without the term."""
    grid = [separated(width, strength) for width in (8, 16, 32) for strength in ("0", "0.01", "0.1", "1")]
    return grid + [separated(width, "0.1", of) for width in (8, 16, 32) for of in ("shuffled", "subspaces")]


def train(until: float) -> None:
    for row in rows():
        if time.monotonic() < until and len(row.done) < len(row.seeds.split(",")):
            row.run()


def line(row: Row) -> list[str]:
    done = row.done
    if not done:
        return [row.name, "not run", *[""] * (len(HEAD) - 2)]
    cells = []
    for which in ("kl_bits", "kl_bits_past"):
        for domain in range(2):
            cells.append(with_interval(interval([study["domains"][domain][which] for study in done])))
    tolerance = done[0]["evaluate"]["tolerance"]
    held = sum(study["domains"][0]["kl_bits_past"] <= tolerance for study in done)
    gaps = [gap["interference_bits"] for gap in (against_alone(row, study) for study in done)]
    between = "" if None in gaps else signed(mean_interval(gaps))
    seconds = np.mean([study["train_seconds"] for study in done])
    return [row.name, *cells, f"{held} of {len(done)}", between, f"{done[0]['parameters']:,}", f"{seconds:.0f}"]


def signed(of: Any) -> str:
    return f"{of.mean:+.1e} [{of.low:+.1e}, {of.high:+.1e}]"


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
    lines = []
    for row in rows():
        paths = [row.root / study["study_id"] / "probe.json" for study in row.done]
        probes = [records.read_json(path).get("routing") for path in paths if path.exists()]
        probes = [probe for probe in probes if probe and "gate" in probe]
        if not probes:
            continue
        asked = ("gate", "in_range"), ("gate", "past"), ("uniform", "in_range"), ("untrained", "in_range")
        gap = [[probe[name][place] for probe in probes] for name, place in asked]
        effects = [np.mean([probe["replaced"][name]["past"]["bits"] for probe in probes]) for name in
                   ("exact", "uniform", "shuffled", "flipped")]  # fmt: skip
        cells = [number(interval(values).mean) for values in gap] + [f"{effect:+.1e}" for effect in effects]
        lines.append([f"{row.name} ({row.tunnel})", *cells])
    return page.table(head, lines, range(1, len(head))) if lines else "Not run."


def grid() -> str:
    """KL in each domain, in range and past, of the separation loss; and how much the domains' states overlap."""
    head = ["loss", "width", "strength", "die", "echo", "die past", "echo past"]
    lines = []
    for row in separation():
        _, of, strength, _, width = row.name.split()
        values = [study["domains"][d][which] for study in row.done[:1] for which in ("kl_bits", "kl_bits_past")
                  for d in range(2)]  # fmt: skip
        lines.append([of, width, strength, *(map(number, values) if values else ["not run", "", "", ""])])
    return page.table(head, lines, range(1, len(head)))


def main() -> None:
    minutes = float(sys.argv[sys.argv.index("--minutes") + 1]) if "--minutes" in sys.argv else MINUTES
    train(time.monotonic() + 60 * minutes)
    for tunnel in ("unmarked", "marked", "runs", "three"):
        lines = [line(row) for row in rows() if row.tunnel == tunnel and not row.name.startswith("separation")]
        page.fill(DOC, tunnel, f"{facts(tunnel)}\n\n{page.table(HEAD, lines, range(1, len(HEAD)))}")
    page.fill(DOC, "gates", gates())
    page.fill(DOC, "separation", grid())


if __name__ == "__main__":
    main()

"""The sections Beliefs, Exchangeability and Implied prior of docs/instruments.md, and the figure of forgetting: python
scripts/inside.py

From `windtunnel run +sweep=inside`, then `windtunnel probe runs/inside beliefs exchangeability implied convergence`.
"""

from pathlib import Path
from typing import Any

import numpy as np

import inside_figures as figures
import page
from windtunnel import records
from windtunnel.records.groups import groups, swept_keys
from windtunnel.records.statistics import Interval, mean_interval
from windtunnel.report.beliefs import simplex_picture
from windtunnel.report.numbers import number
from windtunnel.report.style import drawn, save

ROOT, DOC, FIGURES = Path("runs/inside"), Path("docs/instruments.md"), Path("docs/instruments")


def probed(instrument: str) -> dict[str, list[Any]]:
    """{preset of the tunnel: the records of this instrument, one for each seed}, where it applies."""
    found: dict[str, list[Any]] = {}
    for row in records.rows(ROOT):
        path = ROOT / row["study_id"] / "probe.json"
        record = records.read_json(path).get(instrument) if path.exists() else None
        if record and "skipped" not in record:
            found.setdefault(row["overrides"]["tunnel"], []).append(record)
    return found


def over_seeds(values: list[float]) -> str:
    of: Interval = mean_interval(values)
    return f"{number(of.mean)} [{number(of.low)}, {number(of.high)}]"


def beliefs() -> str:
    head = ["tunnel", "layer", "R²", "untrained", "other sequences", "KL to P(outcome given do z)",
            "centroid put there", "another state's", "random", "linear in that belief"]  # fmt: skip
    lines = []
    for tunnel, of in probed("beliefs").items():
        for index, layer in enumerate(of[0]["layers"]):
            each = [record["layers"][index] for record in of]
            r2 = [f"{np.mean([one[name] for one in each]):.4f}" for name in ("r2", "untrained", "shuffled")]
            bits = [over_seeds([one[name] for one in each]) for name in ("before", "after", "other", "random")]
            linear = number(float(np.mean([record["linear"] for record in of])))
            lines.append([tunnel, str(layer["depth"]), *r2, *bits, linear])
    return page.table(head, lines, range(1, len(head)))


def orders() -> str:
    head = ["tunnel", "observations", "orders differ by", "exact", "untrained", "drift", "exact", "untrained", "KL"]
    lines = []
    for tunnel, of in probed("exchangeability").items():
        for place in of[0]["places"]:
            each, cells = [record["places"][place] for record in of], []
            for name in ("order_bits", "drift_bits"):
                for who in ("model", "exact", "untrained"):
                    values = [one[who][name] for one in each]
                    cells.append("" if None in values else (over_seeds if who == "model" else mean)(values))
            kl = over_seeds([one["model"]["kl_bits"] for one in each])
            lines.append([tunnel, str(each[0]["observations"]), *cells, kl])
    return page.table(head, lines, range(1, len(head)))


def mean(values: list[float]) -> str:
    return number(float(np.mean(values)))


def implied() -> str:
    head = [
        "tunnel",
        "concentration of its futures",
        "of the data",
        "distance from the data",
        "two samples of the data",
    ]
    lines = [
        [
            tunnel,
            over_seeds([record["concentration"]["model"][0] for record in of]),
            mean([record["concentration"]["data"][0] for record in of]),
            over_seeds([record["distance"] for record in of]),
            mean([record["null"]["mean"] for record in of]),
        ]
        for tunnel, of in probed("implied").items()
    ]
    return page.table(head, lines, range(1, len(head)))


def main() -> None:
    for name, table in (("beliefs", beliefs), ("exchangeability", orders), ("implied", implied)):
        page.fill(DOC, name, table())
    named = groups([row for row in records.rows(ROOT) if row["overrides"]["tunnel"] == "mess3"], swept_keys(ROOT))
    own = {"beliefs": figures.forced, "exchangeability": figures.exchangeability, "implied": figures.implied,
           "convergence": figures.forgetting}  # fmt: skip
    for picture in (simplex_picture(ROOT, named), *(draw(probed(name)) for name, draw in own.items())):
        if picture:
            save(picture, FIGURES, ["svg"], drawing=drawn(picture, False))


if __name__ == "__main__":
    main()

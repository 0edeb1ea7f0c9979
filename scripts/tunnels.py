"""`make tunnels`: write the results of every tunnel's preset, from the records of `+sweep=tunnels`, into docs/."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from page import fill, table
from windtunnel import records
from windtunnel.report.numbers import number

ROOT, DOC = Path("runs/tunnels"), Path("docs/tunnels.md")
HEAD = "preset | KL | on samples | KL past | headroom | remembers | steps | seconds | verdict".split(" | ")


def line(preset: str, by_supervision: dict[str, dict[str, Any]]) -> list[str]:
    posterior, sample = (by_supervision.get(name, {}) for name in ("posterior", "sample"))
    more = "> " if posterior["equivalent_memory_censored"] else ""
    seconds = [f"{row['train_seconds']:.0f}" for row in (posterior, sample) if row]
    return [
        f"`{preset}`",
        number(posterior["kl_bits"]),
        number(sample.get("kl_bits")),
        number(posterior["kl_bits_past"]),
        number(max(posterior["headroom_bits_past"] or 0.0, 0.0)) if posterior["reach"] > 1 else "",
        f"{more}{posterior['equivalent_memory']}",
        f"{posterior['steps']:,}",
        ", ".join(seconds),
        posterior["verdict"],
    ]


def main() -> None:
    presets: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in records.rows(ROOT):
        if row["status"] == "done":
            presets[row["tunnel"]][row["supervision"]] = row
    lines = [line(name, rows) for name, rows in sorted(presets.items()) if "posterior" in rows]
    fill(DOC, "table", table(HEAD, lines))


if __name__ == "__main__":
    main()

"""Tables for the terminal."""

import math
from pathlib import Path

from rich.table import Table

from windtunnel import conf, records
from windtunnel.errors import BadInput
from windtunnel.progress import console
from windtunnel.report.groups import Group, answer, groups
from windtunnel.statistics import Interval


def swept_keys(root: Path) -> list[str]:
    """The overrides that the records of a folder carry, in order of appearance."""
    found = [
        records.read_json(f / "study.json")["overrides"] for f in records.studies(root) if (f / "study.json").exists()
    ]
    return list(dict.fromkeys(key for overrides in found for key in overrides))


def summary(root: Path) -> tuple[Table, list[Group]]:
    """One line a group of seeds."""
    made = groups(records.rows(root), swept_keys(root))
    table = Table(
        title=str(root),
        title_justify="left",
        caption="KL in bits: geometric mean over seeds [95 % interval]",
        caption_justify="left",
    )
    past = any(row.get("kl_bits_past") is not None for group in made for row in group.done)
    for name in made[0].key:
        table.add_column(name)
    table.add_column("seeds", justify="right")
    table.add_column("KL in range", justify="right")
    if past:
        for name in ("KL past horizon", "headroom past", "critical length", "ratio"):
            table.add_column(name, justify="right")
    table.add_column("verdict")
    for group in made:
        cells = [*group.key.values(), str(len(group.done)), shown(group.interval("kl_bits"))]
        if past:
            headroom = group.interval("headroom_bits_past").mean
            cells += [shown(group.interval("kl_bits_past")), number(headroom)]
            cells += [length(*group.critical_length), length(*group.ratio)]
        table.add_row(*cells, group.verdict)
    return table, made


def verdict(folder: Path) -> tuple[Table, str]:
    """One study in full, with the baselines it is held against."""
    row = records.row(folder)
    table = Table(title=row["study_id"], title_justify="left")
    for name in ("", "in range", "past the horizon"):
        table.add_column(name, justify="right" if name else "left")
    labels = {"kl_bits": "KL (bits)", "js_bits": "Jensen–Shannon (bits)", "tv": "total variation",
              "entropy_gap_bits": "entropy gap (bits)", "impossible_mass": "mass on the impossible"}  # fmt: skip
    for metric, label in labels.items():
        cells = [plus_minus(row[f"{metric}{where}"], row[f"{metric}{where}_se"]) for where in ("", "_past")]
        table.add_row(label, *cells, end_section=metric == "impossible_mass")
    for name, gap in row["baselines"].items():
        table.add_row(f"KL of {name}", number(gap["kl_bits"]), number(gap["kl_bits_past"]), style="dim")
    facts = [row["verdict"]]
    if row["critical_length"] is not None and row["reach"] > 1:
        ratio = length(row["extrapolation_ratio"], row["censored"])
        facts.append(
            f"critical length {length(row['critical_length'], row['censored'])} observations, {ratio} × the horizon"
        )
    memory = f"{'> ' if row['equivalent_memory_censored'] else ''}{row['equivalent_memory']}"
    facts.append(f"remembers like the last {memory} observations")
    facts.append(f"{row['parameters']:,} parameters, {row['steps']:,} steps in {row['train_seconds']:.0f} s")
    return table, " · ".join(facts)


def number(value: float | None) -> str:
    """`6.1e-4`, `0.035`, `2.3`, `41`"""
    if value is None or math.isnan(value):
        return ""
    if 0 < abs(value) < 0.00995:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:#.2g}" if 0 < abs(value) < 9.95 else f"{value:.0f}"


def plus_minus(value: float | None, error: float | None) -> str:
    return "" if value is None else f"{number(value)} ± {number(error)}"


def shown(interval: Interval) -> str:
    """`6.1e-4 [5.2e-4, 7.3e-4]`"""
    mean = number(interval.mean)
    return mean if math.isnan(interval.low) else f"{mean} [{number(interval.low)}, {number(interval.high)}]"


def length(value: float | None, censored: bool) -> str:
    return (
        "–"
        if value is None
        else f"{'≥ ' if censored else ''}{value:.3g}"
        if value < 1000
        else f"{'≥ ' if censored else ''}{value:.0f}"
    )


def show(folder: Path) -> None:
    """Print the table of a sweep, or the verdict of a study."""
    out = console()
    if (folder / "study.json").exists():
        if records.status(folder) != "done":
            raise BadInput(f"{folder}: {records.status(folder)}, so there is no verdict yet")
        table, facts = verdict(folder)
        out.print(table)
        out.print(facts, markup=False)
        return
    table, made = summary(folder)
    out.print(table)
    out.print(answer(made), markup=False)


def show_choices() -> None:
    """Print what can be chosen on the command line."""
    out = console()
    for group in conf.GROUPS:
        table = Table(
            "",
            "",
            show_header=False,
            box=None,
            padding=(0, 2, 0, 0),
            title=f"{'+' if group == 'sweep' else ''}{group}=",
            title_justify="left",
            title_style="bold",
        )
        for name, head in conf.choices(group).items():
            table.add_row(f"  {name}", head)
        out.print(table)

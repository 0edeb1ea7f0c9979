"""Tables for the terminal."""

import sys
from pathlib import Path
from typing import Any, NoReturn

from rich.table import Table

from windtunnel import presets, records
from windtunnel.errors import BadInput, StudyFailed
from windtunnel.progress import console
from windtunnel.records.groups import Group, better, gather, swept_keys
from windtunnel.report import formats
from windtunnel.report.answer import answer
from windtunnel.report.grid import Grid, grid
from windtunnel.report.numbers import length, number, plus_minus

__all__ = ["answer", "show", "show_choices", "summary", "verdict"]


def summary(root: Path, width: int = formats.WIDE) -> tuple[Table, list[Group]]:
    """The table of a sweep, as wide as it may be, and the groups in it."""
    groups = gather([root])
    return formats.rich(grid(str(root), groups, swept_keys(root)), width), groups


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
            + (f" (surely {row['critical_length_low']})" if row["open"] else "")
        )
    facts.append(f"KL at most {number(row['worst_bin_bits'])} bits in a bin in range, at {row['worst_bin']}")
    if row["equivalent_memory"] is not None:
        facts.append(remembers(row["equivalent_memory"], row["equivalent_memory_censored"]))
    if row.get("kl_ratio_half") is not None:
        facts.append(f"KL at the end {number(row['kl_ratio_half'])} × that at half of the steps")
    facts.append(
        f"decided by {row['sequences']} sequences: more than {row['unseen_share']:.1%} bad ones would have shown"
    )
    if "parameters" in row:
        facts.append(f"{row['parameters']:,} parameters, {row['steps']:,} steps in {row['train_seconds']:.0f} s")
    if row.get("other_mass") is not None:
        facts.append(f"{number(row['other_mass'])} of its probability is on anything but the outcomes")
    facts += attention(row)
    return table, "\n".join([" · ".join(facts), *map(recovered, row.get("recovery", []))])


VACUOUS = 0.5  # a bound on the missed share of attention's mass from which on it says nothing


def remembers(window: int, more: bool) -> str:
    return f"remembers {'more than' if more else 'like'} the last {window} observation{'s' if window != 1 else ''}"


def attention(row: dict[str, Any]) -> list[str]:
    """What is not plain about a study's attention: its softmax, what it skipped, why a GPU's kernel was not used."""
    remarks = [] if row.get("softmax") in (None, "plain") else [row["softmax"].replace("_", " softmax, prior ")]
    layers = row.get("attention", [])
    if any(layer["skipped_blocks"] for layer in layers):
        shares = ", ".join(f"{layer['skipped_blocks']:.0%}" for layer in layers)
        bounds = [layer["skipped_mass_bound"] for layer in layers]
        rigorous = max(bounds) if None not in bounds else 1.0
        holding = f", which hold at most {rigorous:.1e} of its mass" if rigorous <= VACUOUS else ""
        remarks.append(f"attention skipped {shares} of its blocks{holding}")
    approximate = [layer for layer in layers if layer.get("certificates")]
    audits = [layer["certificates"]["audit_missed_bound"] for layer in approximate]
    if audits:
        remarks += sorted({f"attention is {layer['kernel']}" for layer in approximate})
        remarks.append(f"audited: attention misses at most {max(audits):.1%} of its mass on average (95 %)")
    return remarks + sorted({f"attention {layer['kernel']}" for layer in layers if "(not " in layer["kernel"]})


def recovered(head: dict[str, Any]) -> str:
    """`prior of head 0.0: β 1.9 (true 2.0), scale 12 (10), KL 0.033 bits, 2.1e-4 at sharpness 0.73`"""
    beta, scale = (
        f"{name} {number(head[key]) or '–'} ({true}{number(head[f'true_{key}']) or '–'})"
        for name, key, true in (("β", "beta", "true "), ("scale", "scale", ""))
    )
    kl, tempered, sharpness = (number(head[key]) for key in ("kl_bits", "kl_bits_tempered", "sharpness"))
    fit = f"prior of head {head['layer']}.{head['head']}: {beta}, {scale}"
    return f"{fit}, KL {kl} bits, {tempered} at sharpness {sharpness}"


def show(
    folders: list[Path],
    by: str | None = None,
    metric: str | None = None,
    form: str = "rich",
    compare: str | None = None,
) -> None:
    """Print the table of one or more sweeps, or the verdict of a study."""
    names, metrics = _split("by", by), _split("metric", metric)
    if len(folders) == 1 and not (by or metric or compare) and form == "rich":
        from windtunnel.report import status

        if records.is_study(folders[0]):
            return _show_study(folders[0])
        if status.sweeps(folders[0]) != [folders[0]]:
            return status.show(folders[0])
    gathered = gather(folders, names)
    every = [row for group in gathered for row in group.rows]
    damaged = [row for row in every if row["status"] == "damaged"]
    if len(damaged) == len(every):
        raise BadInput(complaints(damaged)[0])
    shown_grid = grid(", ".join(map(str, folders)), gathered, swept_keys(*folders), metrics)
    comparisons = compared(shown_grid, compare) if compare is not None else []
    if form == "parquet":
        if sys.stdout.isatty():
            raise BadInput("--format=parquet: is for programs; send it to a file, as in > table.parquet")
        sys.stdout.buffer.write(formats.parquet(shown_grid))
        return
    out = console()
    if form == "rich":
        out.print(formats.rich(shown_grid, out.width))
        for line in differences(folders):
            out.print(line, markup=False)
        out.print(answer(shown_grid.groups), markup=False)
    else:
        print({"csv": formats.comma_separated, "md": formats.markdown, "latex": formats.latex}[form](shown_grid))
    for line in comparisons:
        print(line, file=sys.stdout if form == "rich" else sys.stderr)
    if damaged:
        raise_damaged(damaged)


def raise_damaged(rows: list[dict[str, Any]]) -> NoReturn:
    """End with exit code 1, after all that could be shown: say which records are damaged, and why."""
    sys.stdout.flush()
    for line in complaints(rows):
        print(f"windtunnel: {line}", file=sys.stderr)
    raise StudyFailed


def complaints(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each reason why rows are damaged, with the studies that it holds for."""
    reasons = dict.fromkeys(row["damage"] for row in rows)
    alike = {reason: [row["study_id"] for row in rows if row["damage"] == reason] for reason in reasons}
    return [
        f"{ids[0]}{f' and {len(ids) - 1} more' if len(ids) > 1 else ''}: damaged, {reason}"
        for reason, ids in alike.items()
    ]


def _show_study(folder: Path) -> None:
    record = records.read(folder)
    if record.state == "damaged":
        raise BadInput(f"{folder}: damaged, {record.why}")
    if record.state != "done":
        raise BadInput(f"{folder}: {record.state}, so there is no verdict yet")
    out = console()
    table, facts = verdict(folder)
    out.print(table)
    out.print(facts, markup=False)


def compared(shown_grid: Grid, names: str) -> list[str]:
    """A line for every column in which less is better."""
    from windtunnel.report.comparison import chosen, sentence

    a, b = chosen(shown_grid.groups, names)
    columns = [column for column in shown_grid.columns if column.metric and better(column.metric) < 0]
    return [sentence(a, b, str(column.metric), column.label) for column in columns]


def differences(folders: list[Path]) -> list[str]:
    """`steps: train.steps=1000`, a line for each of several sweeps: what it fixes otherwise than the others."""
    fixed = {folder: records.fixed(folder) for folder in folders}
    keys = dict.fromkeys(key for one in fixed.values() for key in one)
    differ = [
        key
        for key in keys
        if all(key in one for one in fixed.values()) and len({str(o[key]) for o in fixed.values()}) > 1
    ]
    return [
        f"{folder.name}: {', '.join(f'{key}={one[key]}' for key in differ)}" for folder, one in fixed.items() if differ
    ]


def _split(flag: str, names: str | None) -> list[str] | None:
    if names is None:
        return None
    parts = [name.strip() for name in names.split(",")]
    if not all(parts):
        raise BadInput(f"--{flag}={names}: should be one or more names, with commas between them")
    return parts


def show_choices(beside: Path | None = None) -> None:
    """Print what can be chosen on the command line; also what a folder of the user's own adds."""
    if beside is not None and not beside.is_dir():
        raise BadInput(f"--config-dir={beside}: no such folder")
    out = console()
    offered = {group: presets.choices(group, beside) for group in presets.GROUPS}
    for group, choices in offered.items():
        if not choices:
            continue
        table = Table(
            "",
            "",
            show_header=False,
            box=None,
            padding=(0, 2, 0, 0),
            title=f"{'+' if group in presets.ADDED else ''}{group}=",
            title_justify="left",
            title_style="bold",
        )
        for name, head in choices.items():
            table.add_row(f"  {name}", head)
        out.print(table)

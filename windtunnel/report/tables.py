"""Tables for the terminal."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from windtunnel import conf, records
from windtunnel.errors import BadInput
from windtunnel.progress import console
from windtunnel.report.groups import Group, about_recovery, answer, groups
from windtunnel.statistics import Interval

TINY = 1e-8  # bits
WIDE = 150  # columns of a terminal from which a table shows everything in lines of its own
RECOVERED = {
    "beta": "learned β",
    "scale": "scale",
    "kl_bits": "prior KL",
    "kl_bits_tempered": "tempered",
    "sharpness": "c",
}


def swept_keys(root: Path) -> list[str]:
    """What was swept, in order of appearance."""
    return list(dict.fromkeys(key for overrides in records.overrides(root).values() for key in overrides))


def summary(root: Path, width: int = WIDE) -> tuple[Table, list[Group]]:
    """One line a group of seeds; where it is narrow, intervals go below and the critical length goes out."""
    made = groups(records.rows(root), swept_keys(root))
    past = any(row.get("kl_bits_past") is not None for group in made for row in group.done)
    wide = width >= WIDE
    table = Table(
        title=str(root),
        title_justify="left",
        caption="KL in bits: geometric mean over seeds [95 % interval]",
        caption_justify="left",
        box=box.HEAVY_HEAD if wide else box.SIMPLE_HEAD,
        collapse_padding=not wide,
        pad_edge=wide,
    )

    def kl(group: Group, metric: str) -> str:
        return shown(group.interval(metric), "" if wide else "\n")

    def mean(group: Group, metric: str) -> str:
        return number(group.interval(metric).mean)

    columns: dict[str, Callable[[Group], str]] = {}
    if wide:
        columns["seeds"] = lambda group: str(len(group.done))
    columns["KL in range"] = lambda group: kl(group, "kl_bits")
    recovery = about_recovery(made)
    if recovery:
        table.caption = f"{table.caption}; prior KL: true ‖ learned; tempered: what is left at the best sharpness c"
        for name, label in RECOVERED.items():
            cell = kl if wide or name == "beta" else mean
            columns[label] = partial(cell, metric=f"recovered_{name}")
    elif past:
        columns["KL past"] = lambda group: kl(group, "kl_bits_past")
        columns["headroom"] = lambda group: mean(group, "headroom_bits_past")
        if wide:
            columns["critical length"] = lambda group: length(*group.critical_length)
        columns["ratio"] = lambda group: ratio(group, " " if wide else "\n")
    if any(row.get("kl_bits_full") is not None for group in made for row in group.done):
        columns["KL to the pool"] = columns.pop("KL in range")
        columns["KL to the prior"] = lambda group: kl(group, "kl_bits_full")
    for name in made[0].key:
        table.add_column(name, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    if wide or not recovery:
        columns["verdict"] = lambda group: group.verdict
        table.add_column("verdict", overflow="fold")
    for group in made:
        table.add_row(*group.key.values(), *(cell(group) for cell in columns.values()))
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
    facts += attention(row)
    return table, "\n".join([" · ".join(facts), *map(recovered, row.get("recovery", []))])


def attention(row: dict[str, Any]) -> list[str]:
    """What is not plain about a study's attention: its softmax, what it skipped, why a GPU's kernel was not used."""
    said = [] if row.get("softmax") in (None, "plain") else [row["softmax"].replace("_", " softmax, prior ")]
    layers = row.get("attention", [])
    if any(layer["skipped_blocks"] for layer in layers):
        shares = ", ".join(f"{layer['skipped_blocks']:.0%}" for layer in layers)
        bound = max(layer["skipped_mass_bound"] for layer in layers)
        said.append(f"attention skipped {shares} of its blocks, which hold at most {bound:.1e} of its mass")
    return said + sorted({f"attention {layer['kernel']}" for layer in layers if "not fused" in layer["kernel"]})


def recovered(head: dict[str, Any]) -> str:
    """`prior of head 0.0: β 1.9 (true 2.0), scale 12 (10), KL 0.033 bits, 2.1e-4 at sharpness 0.73`"""
    beta, scale = (
        f"{name} {number(head[key]) or '–'} ({true}{number(head[f'true_{key}']) or '–'})"
        for name, key, true in (("β", "beta", "true "), ("scale", "scale", ""))
    )
    kl, tempered, sharpness = (number(head[key]) for key in ("kl_bits", "kl_bits_tempered", "sharpness"))
    fit = f"prior of head {head['layer']}.{head['head']}: {beta}, {scale}"
    return f"{fit}, KL {kl} bits, {tempered} at sharpness {sharpness}"


def number(value: float | None) -> str:
    """`6.1e-4`, `0.035`, `2.3`, `41`; what no float32 can tell from zero is `0`"""
    if value is None or math.isnan(value):
        return ""
    if abs(value) < TINY:
        return "0"
    if abs(value) < 0.00995:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:#.2g}" if abs(value) < 9.95 else f"{value:.0f}"


def plus_minus(value: float | None, error: float | None) -> str:
    return "" if value is None else f"{number(value)} ± {number(error)}"


def shown(interval: Interval, between: str = "") -> str:
    """`6.1e-4 [5.2e-4, 7.3e-4]`"""
    mean = number(interval.mean)
    if math.isnan(interval.low):
        return mean
    return f"{mean}{between or ' '}[{number(interval.low)}, {number(interval.high)}]"


def length(value: float | None, censored: bool) -> str:
    return (
        "–"
        if value is None
        else f"{'≥ ' if censored else ''}{value:.3g}"
        if value < 1000
        else f"{'≥ ' if censored else ''}{value:.0f}"
    )


def ratio(group: Group, between: str = " ") -> str:
    """`1.28 [1.05, 1.56]`: the mean over seeds; where some are censored the median and how many: `≥ 128 (3 of 3)`."""
    found = group.ratio_interval
    if found.n:
        spread = "" if math.isnan(found.low) else f"{between}[{found.low:.3g}, {found.high:.3g}]"
        return length(found.mean, False) + spread
    return length(*group.ratio) + (f"{between}({group.censored} of {len(group.done)})" if group.censored else "")


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
    table, made = summary(folder, out.width)
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

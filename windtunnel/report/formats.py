"""The formats of a table. For people: rich, Markdown and LaTeX, with the best in bold. For programs: CSV and
Parquet.
"""

import csv
import io
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from windtunnel.errors import BadInput
from windtunnel.records.groups import better
from windtunnel.report.grid import Column, Grid, numbers

WIDE = 150  # from this width of a terminal on, a table shows every column, with intervals beside their means


def rich(grid: Grid, width: int = WIDE) -> Table:
    """One row per group of seeds. In a narrow terminal, intervals are below their means and minor columns left out."""
    wide = width >= WIDE
    table = Table(
        title=grid.title,
        title_justify="left",
        caption="\n".join(grid.notes),
        caption_justify="left",
        box=box.HEAVY_HEAD if wide else box.SIMPLE_HEAD,
        collapse_padding=not wide,
        pad_edge=wide,
    )
    columns = [column for column in grid.columns if wide or not column.wide]
    for name in grid.groups[0].key:
        table.add_column(name, overflow="fold")
    for column in columns:
        prose = column.label == "verdict"
        table.add_column(column.label, justify="left" if prose else "right", no_wrap=not prose, overflow="fold")
    for line in lines(grid, columns, " " if wide else "\n"):
        table.add_row(*(Text(text, "bold" if best else "") for text, best in line))
    return table


def lines(grid: Grid, columns: list[Column], between: str = " ") -> list[list[tuple[str, bool]]]:
    """A cell for every key and column of every group: its text, and whether it is the best of its column."""
    best = [grid.best(column) for column in columns]
    return [
        [(value or "–", False) for value in group.key.values()]
        + [
            (column.text(group, between) or "–", any(group is winner for winner in winners))
            for column, winners in zip(columns, best, strict=True)
        ]
        for group in grid.groups
    ]


def head(grid: Grid) -> list[str]:
    return [*grid.groups[0].key, *(column.label for column in grid.columns)]


def markdown(grid: Grid) -> str:
    rows = [[f"**{text}**" if best else text for text, best in line] for line in lines(grid, grid.columns)]
    everything = [head(grid), ["---"] * len(head(grid)), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in everything)


def latex(grid: Grid) -> str:
    """A `tabular` for the package booktabs."""
    rows = [
        [f"\\textbf{{{tex(text)}}}" if best else tex(text) for text, best in line] for line in lines(grid, grid.columns)
    ]
    keys = len(grid.groups[0].key)
    body = [" & ".join(row) + r" \\" for row in [list(map(tex, head(grid))), *rows]]
    align = "l" * keys + "r" * (len(grid.columns) - 1) + "l"
    return "\n".join(
        [
            f"\\begin{{tabular}}{{{align}}}",
            r"\toprule",
            body[0],
            r"\midrule",
            *body[1:],
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


TEX = {"\\": r"\textbackslash{}", "β": r"$\beta$", "≥": r"$\geq$", "–": "--", "×": r"$\times$"}


def tex(text: str) -> str:
    """The text with LaTeX's special characters escaped."""
    escaped = "".join(TEX.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in text)
    return escaped.replace("~", r"\textasciitilde{}").replace("^", r"\textasciicircum{}")


def frame(grid: Grid) -> dict[str, list[Any]]:
    """Columns for programs: keys, counts, every metric with its interval, verdict."""
    rows = []
    for group in grid.groups:
        missing = {state: group.missing.get(state, 0) for state in ("failed", "waiting", "damaged")}
        damaged = missing.pop("damaged")
        counts = {"studies": len(group.rows), "done": len(group.done), **missing}
        row: dict[str, Any] = {**group.key, **counts}
        for column in grid.columns:
            if column.metric:
                row |= numbers(group, column.metric)
                if better(column.metric):
                    row[f"{column.metric}_best"] = any(group is winner for winner in grid.best(column))
        rows.append(row | {"verdict": group.verdict, "damaged": damaged})
    return {name: [row[name] for row in rows] for name in rows[0]}


def comma_separated(grid: Grid) -> str:
    columns = frame(grid)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        [f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in zip(*columns.values(), strict=True)
    )
    return out.getvalue().rstrip("\n")


def parquet(grid: Grid) -> bytes:
    try:
        import polars
    except ModuleNotFoundError:
        raise BadInput("--format=parquet: polars is not installed (pip install 'windtunnel[tables]')") from None
    out = io.BytesIO()
    polars.DataFrame(frame(grid)).write_parquet(out)
    return out.getvalue()

"""The style of figures, and how they are saved: SVG and PDF for papers, inline SVG for the report, by matplotlib.

Okabe & Ito's colours can be distinguished with every kind of colour vision; markers and dashes distinguish lines in
black and white. Inside the report colours are CSS variables, so that one picture fits light and dark themes.
"""

import io
import re
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from windtunnel import records
from windtunnel.errors import BadInput

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
INK, SOFT, FAINT = "#1A1A1A", "#6E6E6E", "#D0D0D0"
VARIABLES = {
    **{colour.lower(): f"var(--c{index})" for index, colour in enumerate(COLOURS)},
    **{INK.lower(): "var(--ink)", SOFT.lower(): "var(--soft)", FAINT.lower(): "var(--faint)"},
}
NARROW, WIDE = (4.3, 3.6), (9.2, 4.3)  # inches; narrow is for phones, and for two columns on a large screen
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.hashsalt": "windtunnel",  # so that the same picture gives the same file
    "figure.constrained_layout.use": True,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}


class Picture(NamedTuple):
    """A figure of the report: `draw(figure, wide)` draws it."""

    name: str
    title: str
    caption: str
    draw: Callable[[Any, bool], None]
    wide: bool = False  # takes the whole width of a large screen
    size: tuple[float, float] | None = None


def look(index: int) -> dict[str, Any]:
    """Colour, marker and dash of a figure's line, by its index."""
    dashes = ("-", "--", "-.")[index // len(COLOURS) % 3]
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)], "ls": dashes, "ms": 4.5}


def label(text: str) -> str:
    """The text as a label: matplotlib would read what stands between dollars as mathematics, and an underscore in
    front as a wish to be left out of the legend.
    """
    return re.sub("^_", "\u200b_", text.replace("$", r"\$"))


def save(picture: Picture, folder: Path, forms: Iterable[str] = ("svg", "pdf"), drawing: Any = None) -> list[Path]:
    """`NAME.svg`, `NAME.pdf`, …"""
    drawing = drawing or drawn(picture, picture.wide)
    paths = [folder / f"{picture.name}.{form}" for form in forms]
    for path in paths:
        records.write(path, render(drawing, path.suffix[1:]))
    return paths


def inline(picture: Picture, wide: bool, drawing: Any = None) -> str:
    """An `<svg>` to embed in a page: text stays text, colours are CSS variables, ids are unique."""
    svg = render(drawing or drawn(picture, wide), "svg", {"svg.fonttype": "none"}).decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, flags=re.S)  # it would apply to the whole page
    prefix = f"{picture.name}-{'wide' if wide else 'narrow'}-"
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'((?:href="|url\()#)', rf"\g<1>{prefix}", svg)
    svg = re.sub(r"#[0-9a-fA-F]{6}\b", lambda m: VARIABLES.get(m[0].lower(), m[0]), svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(picture.title)}"', 1)


def drawn(picture: Picture, wide: bool) -> Any:
    """The figure, laid out. That takes most of the time of a report, so every form of it is rendered from one."""
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise missing(error) from None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=WIDE if wide else picture.size or NARROW)
        FigureCanvasAgg(figure)
        picture.draw(figure, wide)
        if engine := figure.get_layout_engine():
            engine.execute(figure)
    with matplotlib.rc_context({"figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)  # else each form is drawn twice, to be laid out again
    return figure


def render(figure: Any, form: str, style: dict[str, Any] | None = None) -> bytes:
    import matplotlib

    with matplotlib.rc_context({**STYLE, "figure.constrained_layout.use": False, **(style or {})}):
        out = io.BytesIO()
        background = "none" if style else "white"
        dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
        figure.savefig(out, format=form, dpi=160, metadata=dates, facecolor=background)
        return out.getvalue()


def missing(error: ModuleNotFoundError) -> BadInput:
    return BadInput(f"a report needs {error.name}, which is not installed (pip install 'windtunnel[report]')")

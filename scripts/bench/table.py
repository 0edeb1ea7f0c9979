"""The table of docs/benchmarks.md."""

from dataclasses import dataclass
from statistics import median

HEAD = ["what", "against", "ratio", "must", "windtunnel", "the other", "detail"]


@dataclass(frozen=True)
class Line:
    """Paired repeats, and the ratio of each pair. `seconds`: less is better, so the ratio is theirs ÷ ours."""

    what: str
    against: str
    ours: list[float]
    theirs: list[float]
    must: float | None = None
    detail: str = ""
    seconds: bool = False

    @property
    def ratios(self) -> list[float]:
        pairs = zip(self.ours, self.theirs, strict=True)
        return [theirs / ours if self.seconds else ours / theirs for ours, theirs in pairs]

    def cells(self) -> list[str]:
        ratios = sorted(self.ratios)
        spread = f" [{ratios[0]:.2f}, {ratios[-1]:.2f}]" if len(ratios) > 1 else ""
        must = "" if self.must is None else f"≥ {self.must:.3g}"
        if self.must is not None and median(ratios) < self.must:
            must += ", **not met**"
        ratio = f"{median(ratios):.2f}{spread}"
        return [
            self.what,
            self.against,
            ratio,
            must,
            figure(median(self.ours)),
            figure(median(self.theirs)),
            self.detail,
        ]


def figure(number: float) -> str:
    """Three significant digits, or whole numbers with separated thousands."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"

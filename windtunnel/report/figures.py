"""Curves over positions and steps: KL past the horizon, learning, convergence. They are drawn from records alone."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from windtunnel import records
from windtunnel.records.groups import Group, gather
from windtunnel.records.statistics import interval
from windtunnel.report.style import FAINT, INK, SOFT, Picture, label, look, save

BASELINES = {"last-horizon": "--", "content-only": ":", "position-only": "-."}
FLOOR = 1e-7  # bits: below this a curve is drawn at the floor
MOST = 14  # lines in one picture, at most
PARTS = 6  # pictures of one kind, at most

Curves = dict[str, np.ndarray]


def kl_against_length(root: Path) -> Path:
    """The main figure as PNG, SVG and PDF in the sweep's folder; returns the path of the PNG."""
    picture = kl_picture(root, gather([root]))
    assert picture is not None  # callers check that a study is done
    return save(picture, root, ("png", "svg", "pdf"))[0]


def kl_pictures(root: Path, groups: list[Group]) -> list[Picture]:
    """One picture; for a sweep over several problems, one for each problem that more than one group answers."""
    problems = list(dict.fromkeys(group.problem for group in groups if group.done))
    parts = [[group for group in groups if group.problem == problem] for problem in problems]
    if len(parts) < 2 or all(len(part) < 2 for part in parts):
        return [picture for picture in [kl_picture(root, groups)] if picture]
    pictures = []
    for number, part in enumerate([part for part in parts if len(part) > 1][:PARTS]):
        shared = [value for key, value in part[0].key.items() if all(group.key[key] == value for group in part)]
        picture = kl_picture(root, part)
        assert picture is not None  # a problem is listed only if one of its studies is done
        name, title = f"{picture.name}-{number}", f"{picture.title}: {' '.join(shared)}"
        pictures.append(picture._replace(name=name, title=title))
    return pictures


def kl_picture(root: Path, groups: list[Group]) -> Picture | None:
    if not drawable(groups):
        return None
    return Picture(
        "kl_against_length",
        "KL to the exact posterior against position ÷ horizon",
        "How far the model's prediction lies from the exact one, at every position: geometric mean over seeds, with "
        "its 95 % interval as a band. Training saw what lies left of the horizon, and nothing of what lies right of "
        "it. Below τ counts as exact. Grey: exact reasoners that see less; only far below them does holding prove "
        "something.",
        partial(_draw_kl, root, drawable(groups)),
        wide=True,
    )


def _draw_kl(root: Path, groups: list[Group], figure: Any, wide: bool) -> None:
    axes = figure.subplots()
    for index, group in enumerate(groups):
        loaded = alike([curves(root, row) for row in group.done])
        x = middle(loaded[0]) / group.done[0]["horizon"]
        style = look(index)
        every = max(1, len(x) // 10)
        mean, low, high = over_seeds(np.asarray([study_curves["kl_bits"] for study_curves in loaded]))
        axes.plot(x, mean, label=label(group.name), markevery=(index % every, every), **style)
        axes.fill_between(x, low, high, color=style["color"], alpha=0.2, lw=0)
    first = groups[0].done[0]
    exact = curves(root, first)
    for name, dash in BASELINES.items():
        gap = exact.get(f"baseline/{name}")
        if gap is not None and (gap > FLOOR).any():
            x = middle(exact) / first["horizon"]
            axes.plot(x, np.where(gap > FLOOR, gap, np.nan), color=SOFT, ls=dash, lw=1.1, label=f"exact, {name}")
    tolerance = first["evaluate"]["tolerance"]
    axes.axhline(tolerance, color=INK, lw=0.8)
    axes.annotate(f"τ = {tolerance:g}", (0.01, tolerance), xycoords=("axes fraction", "data"), va="bottom", color=INK)
    mark_horizon(axes)
    axes.set(xscale="log", yscale="log", xlabel="position ÷ horizon", ylabel="KL(exact ‖ model), bits")
    axes.set_ylim(bottom=max(axes.get_ylim()[0], FLOOR / 2))
    plain_ticks(axes)
    legend(figure, wide)


def learning_picture(root: Path, groups: list[Group]) -> Picture | None:
    learned = {
        group.name: [
            readable(records.read_learning_curve, root / row["study_id"] / "train.jsonl") for row in group.done
        ]
        for group in drawable(groups)
    }
    done = [group for group in drawable(groups) if all(learned[group.name])]
    if not done:
        return None

    def draw(figure: Any, wide: bool) -> None:
        axes = figure.subplots()
        for index, group in enumerate(done):
            read = [curve for curve in learned[group.name] if curve]
            steps = min((curve["step"] for curve in read), key=len)
            style = look(index)
            every = max(1, len(steps) // 6)
            mean, low, high = over_seeds(np.asarray([curve["kl_bits"][: len(steps)] for curve in read]))
            axes.plot(steps, mean, label=label(group.name), markevery=(index % every, every), **{**style, "lw": 1.2})
            axes.fill_between(steps, low, high, color=style["color"], alpha=0.2, lw=0)
        axes.axhline(done[0].done[0]["evaluate"]["tolerance"], color=INK, lw=0.8)
        axes.set(yscale="log", xlabel="step", ylabel="KL(exact ‖ model), bits, in training")
        legend(figure, wide)

    return Picture(
        "learning",
        "Learning curves",
        "KL to the exact predictive on the training batches, averaged over windows of steps: what is left to learn, "
        "and not the loss, whose floor is the entropy of the data. The line is τ.",
        draw,
    )


def convergence_picture(root: Path, groups: list[Group]) -> Picture | None:
    done = drawable(groups)
    if not done:
        return None

    def draw(figure: Any, wide: bool) -> None:
        axes = figure.subplots()
        drawn: set[frozenset[str]] = set()
        for index, group in enumerate(done):
            loaded = alike([curves(root, row) for row in group.done])
            x, style = middle(loaded[0]), look(index)
            every = max(1, len(x) // 8)
            if group.problem not in drawn:  # groups of the same problem share one exact curve
                drawn.add(group.problem)
                name = "exact" if len(drawn) == 1 else None
                axes.plot(x, loaded[0]["entropy_bits_exact"], color=INK, lw=3, alpha=0.35, label=name)
            mean = np.mean([study_curves["entropy_bits"] for study_curves in loaded], axis=0)
            axes.plot(x, mean, label=label(group.name), markevery=(index % every, every), **{**style, "lw": 1.1})
        mark_horizon(axes, done[0].done[0]["horizon"])
        axes.set(
            xscale="log", xlabel="position (observations)", ylabel="entropy of the prediction, bits", ylim=(0, None)
        )
        plain_ticks(axes)
        legend(figure, wide)

    return Picture(
        "convergence",
        "Convergence: how sure the reasoners are",
        "Mean entropy of the predictive distribution. Below the exact line a model is surer than the evidence allows, "
        "above it less sure; on the line it may still be wrong, which only the KL shows.",
        draw,
    )


def drawable(groups: list[Group]) -> list[Group]:
    """The groups with a finished study, at most as many as a reader can distinguish in one picture."""
    return [group for group in groups if group.done][:MOST]


def curves(root: Path, row: dict[str, Any]) -> Curves:
    return records.read_curves(root / row["study_id"] / "curves.npz")


def readable(reader: Callable[[Path], Any], path: Path) -> Any:
    """What a file holds; None where there is none or it is damaged, which the page says (`page.unreadable`)."""
    try:
        return reader(path) if path.exists() else None
    except records.Damaged:
        return None


def alike(read: list[Curves]) -> list[Curves]:
    """Those over the same bins as the first: a study that was judged at another reach has others."""
    return [one for one in read if np.array_equal(one["last"], read[0]["last"])]


def middle(read: Curves) -> np.ndarray:
    """The geometric middle of every bin, in observations."""
    return np.sqrt(read["first"] * read["last"].astype(float))


def over_seeds(values_SX: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and band of KLs at every x: the 95 % interval, or the range where there are fewer than 3 seeds."""
    values_SX = np.maximum(values_SX, FLOOR)
    mean, low, high = (
        np.asarray(ends) for ends in zip(*[interval(values_S)[:3] for values_S in values_SX.T], strict=True)
    )
    few = np.isnan(low)
    return mean, np.where(few, values_SX.min(0), low), np.where(few, values_SX.max(0), high)


def mark_horizon(axes: Any, at: float = 1) -> None:
    axes.axvline(at, color=INK, lw=0.8)
    axes.annotate(
        "horizon", (at, 0.02), xycoords=("data", "axes fraction"), rotation=90, va="bottom", ha="right", color=INK
    )
    axes.grid(color=FAINT, lw=0.4, alpha=0.6)
    axes.set_axisbelow(True)


def plain_ticks(axes: Any) -> None:
    """`0.1 1 10` under a logarithmic axis, and no labels for minor ticks."""
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")


def legend(figure: Any, wide: bool) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if wide:
        figure.legend(handles, labels, loc="outside right center")
    else:
        columns = 3 if max(map(len, labels)) < 16 else 2
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, columnspacing=1, handlelength=1.8)

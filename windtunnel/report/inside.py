"""Pictures of a model's internals: its positional prior beside the data's, its attention beside the posterior."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from windtunnel import records
from windtunnel.records.groups import Group, Row
from windtunnel.report.figures import Curves, drawable, mark_horizon, plain_ticks, readable
from windtunnel.report.style import COLOURS, INK, MARKERS, SOFT, Picture, look

PANELS = 6  # heads in a picture, at most; the last layers come first
LEAST = 0.01  # the smallest probability that is drawn as a dot
BELOW = 24  # bits: the range of the axis below the top of the priors


def example(root: Path, row: Row) -> Curves:
    path = root / row["study_id"] / "example.npz"
    return readable(records.read_curves, path) or {}


def priors_picture(root: Path, groups: list[Group]) -> Picture | None:
    """The additive prior of each group's first seed, of its best head, beside the data's prior; None if there is
    none.
    """
    read = [(index, group, example(root, group.done[0])) for index, group in enumerate(drawable(groups))]
    heads = [entry for entry in read if "position_bits" in entry[2]]
    if not heads:
        return None
    truths = {arrays["prior_bits"].tobytes() for _, _, arrays in heads}

    def draw(figure: Any, wide: bool) -> None:
        axes = figure.subplots()
        for order, (index, group, arrays) in enumerate(heads):
            lag, style = arrays["lag"] + 1, look(index)
            if order == 0 or len(truths) > 1:
                alone = len(truths) == 1
                colour = INK if alone else style["color"]
                axes.plot(
                    lag, arrays["prior_bits"], color=colour, lw=3.5, alpha=0.35, label="the data's" if alone else None
                )
            head = min(group.done[0].get("recovery", [{"layer": 0, "head": 0}]), key=_kl)
            bits = arrays["position_bits"][head["layer"], head["head"]]
            axes.plot(lag, bits, label=group.name, markevery=(index * 2, 12), **{**style, "lw": 1.2})
        top = max(arrays["prior_bits"].max() for _, _, arrays in heads)
        least = min(arrays["prior_bits"].min() for _, _, arrays in heads)
        axes.set_ylim(max(least - 4, top - BELOW), top + 2)
        mark_horizon(axes, heads[0][1].done[0]["horizon"])
        axes.set(xscale="log", xlabel="lag + 1 (observations)", ylabel="log₂ of the prior over lags")
        plain_ticks(axes)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2 if max(map(len, labels)) > 15 else 3)

    return Picture(
        "priors",
        "The positional prior: learned against true",
        "What a head believes about where the answer stands before it looks at the content, beside how the data are "
        f"made (the broad {'lines of the same colour' if len(truths) > 1 else 'grey line'}). First seed, the nearest "
        "head. Of the true shape but steeper or flatter by a factor, it is that prior at another temperature.",
        draw,
    )


def _kl(head: dict[str, Any]) -> float:
    return math.inf if head.get("kl_bits") is None else head["kl_bits"]


def attention_picture(root: Path, group: Group) -> Picture | None:
    """A panel for each head: dots are attention, rings the exact posterior; their areas are probabilities."""
    row = group.done[0]
    arrays = example(root, row)
    if "attention" not in arrays:
        return predictive_picture(root, group)
    attention_LNPT = arrays["attention"].astype(float)
    layers, heads = attention_LNPT.shape[:2]
    every = [(layer, head) for layer in range(layers) for head in range(heads)][-PANELS:]
    posterior_PT = arrays["posterior"].astype(float) if "posterior" in arrays else None
    words = [str(word) for word in arrays["words"]]
    columns = min(2, len(every))
    down = -(-len(every) // columns)

    def draw(figure: Any, wide: bool) -> None:
        axes = figure.subplots(down, columns, squeeze=False, sharex=True, sharey=True)
        for panel in axes.flat[len(every) :]:
            panel.set_visible(False)
        for panel, (layer, head) in zip(axes.flat, every, strict=False):
            _dots(panel, attention_LNPT[layer, head], posterior_PT)
            panel.set_title(f"layer {layer}, head {head}", fontsize=9, color=INK)
            panel.set(xlim=(-0.9, len(words) - 0.1), ylim=(len(attention_LNPT[0, 0]) - 0.1, -0.9))
        for panel in axes[-1]:
            panel.set_xticks(range(len(words)), words, rotation=90, fontsize=6.5 if len(words) <= 40 else 4)
            panel.set_xlabel("token attended to")
        for panel in axes[:, 0]:
            panel.set_ylabel("observation predicted")
            panel.set_yticks(range(0, attention_LNPT.shape[2], 5), range(1, attention_LNPT.shape[2] + 1, 5))

    ring = "Dots: attention. Rings: the exact posterior over the same tokens; a dot that fills its ring is the theory. "
    token = "Under each token the value it stores and how many bits of its key agree with the last cue. "
    rest = "Dots: attention, by area. The hypotheses here are not tokens, so there is no posterior to lay it on. "
    return Picture(
        f"attention-{_slug(group)}",
        f"Attention in one sequence: {group.name}",
        (ring + token if posterior_PT is not None else rest) + "First seed; training has not seen the sequence.",
        draw,
        size=(4.3, 1.3 + 1.9 * down),
    )


def _dots(panel: Any, attention_PT: np.ndarray, posterior_PT: np.ndarray | None) -> None:
    largest = 9000 / max(attention_PT.shape) ** 2  # points², of probability 1
    observation, token = np.nonzero(attention_PT >= LEAST)
    panel.scatter(token, observation, s=largest * attention_PT[observation, token], color=COLOURS[0], lw=0)
    if posterior_PT is not None:
        observation, token = np.nonzero(posterior_PT >= LEAST)
        size = largest * posterior_PT[observation, token]
        panel.scatter(token, observation, s=size, facecolors="none", edgecolors=INK, lw=0.8)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)


def predictive_picture(root: Path, group: Group) -> Picture | None:
    """For a model without attention: its predictions beside the exact ones, for the same sequence."""
    arrays = example(root, group.done[0])
    if "predictive" not in arrays or arrays["predictive"].shape[1] > 64:
        return None

    def draw(figure: Any, wide: bool) -> None:
        panel = figure.subplots()
        _dots(panel, arrays["predictive"].astype(float), arrays["predictive_exact"].astype(float))
        panel.plot(arrays["outcome"], np.arange(len(arrays["outcome"])), ls="", marker=MARKERS[5], ms=3, color=SOFT)
        panel.set(xlabel="outcome", ylabel="observation predicted")
        panel.invert_yaxis()

    return Picture(
        f"attention-{_slug(group)}",
        f"Predictions in one sequence: {group.name}",
        "Dots: the model's probabilities, by area. Rings: the exact ones. Crosses: what was drawn. "
        "First seed; training has not seen the sequence.",
        draw,
        size=(4.3, 4.0),
    )


def _slug(group: Group) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in group.name)

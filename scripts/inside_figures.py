"""The figures of scripts/inside.py: forced states, exchangeability, implied priors, forgetting.

Each takes {preset of the tunnel: the records of its instrument, one for each seed}.
"""

from typing import Any

import numpy as np

from windtunnel.records.statistics import mean_interval
from windtunnel.report.style import COLOURS, FAINT, INK, MARKERS, SOFT, Picture

Found = dict[str, list[Any]]
PATCHES = {"before": "nothing put there", "after": "its centroid", "other": "another state's",
           "random": "as far, at random"}  # fmt: skip
LEAST_BITS = 1e-9  # what is smaller is drawn there
ROUNDING_BITS = 1e-6  # KL of predictions that differ in float32 alone is below
FROM = 2  # observations, from which laws are drawn: they hold for long spans


def forced(found: Found) -> Picture:
    """KL to what follows a state, by layer, before and after its centroid is put there; 95 % over seeds."""
    (of,) = found.values()
    depths = [layer["depth"] for layer in of[0]["layers"]]

    def draw(figure: Any, wide: bool) -> None:
        axes = figure.subplots()
        for index, (name, words) in enumerate(PATCHES.items()):
            for place in range(len(depths)):
                seeds = mean_interval([record["layers"][place][name] for record in of])
                around = [[seeds.mean - seeds.low], [seeds.high - seeds.mean]]
                axes.errorbar(seeds.mean, place, xerr=around, color=COLOURS[index], marker=MARKERS[index], ms=6, ls="",
                              label=None if place else words)  # fmt: skip
        axes.axvline(float(np.mean([record["linear"] for record in of])), color=SOFT, ls="--", lw=1,
                     label="reading the centroid's mean belief linearly")  # fmt: skip
        axes.set_yticks(range(len(depths)), [f"layer {depth}" for depth in depths])
        axes.set(xscale="log", xlabel="KL(P(outcome | do z) ‖ model), bits", ylim=(-0.5, len(depths) - 0.5))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)

    return Picture("forced", "", "", draw, size=(6.4, 2.9))


def exchangeability(found: Found) -> Picture:
    """By how much orders differ, and the drift, beside KL: a dot for each seed."""
    rows = [(f"{tunnel}, {place['observations']}", [record["places"][name] for record in of])
            for tunnel, of in found.items() for name, place in of[0]["places"].items()]  # fmt: skip
    kinds = {"order_bits": "orders differ by, bits", "drift_bits": "drift, bits"}

    def draw(figure: Any, wide: bool) -> None:
        for axes, (kind, words) in zip(figure.subplots(1, 2, sharey=True), kinds.items(), strict=True):
            for place, (_, each) in enumerate(rows):
                axes.axhline(place, color=FAINT, lw=0.6, zorder=0)
                if each[0]["model"][kind] is None:
                    continue
                looks = {"model": {"marker": "o", "color": COLOURS[0]},
                         "untrained": {"marker": "D", "color": COLOURS[1], "mfc": "none"},
                         "exact": {"marker": "s", "color": INK, "mfc": "none"}}  # fmt: skip
                for who, look in looks.items():
                    values = np.maximum([seed[who][kind] for seed in each], LEAST_BITS)
                    axes.plot(values, [place] * len(values), ls="", ms=5, label=None if place else who, **look)
                errors = [seed["model"]["kl_bits"] for seed in each]
                axes.plot(errors, [place] * len(errors), ls="", marker="|", ms=11, color=COLOURS[2],
                          label="KL of the model" if place == 0 else None)  # fmt: skip
            axes.set(xscale="log", xlabel=words, xlim=(LEAST_BITS / 3, 30))
            axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        figure.axes[0].invert_yaxis()
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)

    return Picture("exchangeability", "", "", draw, size=(8.2, 3.4))


def implied(found: Found) -> Picture:
    """The shares of outcomes in sampled futures, beside those in the data."""

    def draw(figure: Any, wide: bool) -> None:
        for axes, (tunnel, of) in zip(figure.subplots(1, len(found), squeeze=False).flat, found.items(), strict=True):
            data = np.mean([record["histogram"]["data"] for record in of], axis=0)
            edges = np.linspace(0, 1, len(data) + 1)
            axes.stairs(data, edges, fill=True, color=INK, alpha=0.2, label="data")
            for index, record in enumerate(of):
                axes.stairs(record["histogram"]["model"], edges, color=COLOURS[0], lw=0.9,
                            label=None if index else "futures of the model, by seed")  # fmt: skip
            axes.set(title=tunnel, xlabel="share of an outcome after one horizon", ylabel="frequency")
            axes.set_xlim(0, min(1.0, float(edges[np.flatnonzero(data > 0)[-1] + 1]) + 0.05))
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)

    return Picture("implied", "", "", draw, size=(3.4 * len(found), 2.9))


def forgetting(found: Found) -> Picture:
    """What a symbol still changes after w others, exact and model, beside the laws of the filter and of the chain."""
    tunnel, of = next((tunnel, of) for tunnel, of in found.items() if of[0]["kind"] == "forgetting")

    def draw(figure: Any, wide: bool) -> None:
        axes = figure.subplots()
        count = int(np.argmin(np.asarray(of[0]["excess_exact"], float) > ROUNDING_BITS))  # what comes later is rounding
        lag = np.arange(count)
        exact = np.exp(np.mean([np.log(record["excess_exact"][:count]) for record in of], axis=0))
        models = np.asarray([record["excess_model"][:count] for record in of])
        axes.plot(lag, models.T, color=COLOURS[0], lw=0.9, label=["models, by seed", *[None] * (len(of) - 1)])
        axes.plot(lag, exact, color=INK, marker="o", ms=3.5, lw=1, label="exact")
        laws = {f"Lyapunov gap: e^(−{of[0]['theory']:.2g} w)": (of[0]["theory"], COLOURS[1], "--"),
                f"|λ₂| alone: e^(−{of[0]['least']:.2g} w)": (of[0]["least"], SOFT, ":")}  # fmt: skip
        for words, (rate, colour, dash) in laws.items():
            axes.plot(lag, exact[FROM] * np.exp(-rate * (lag - FROM)), color=colour, ls=dash, lw=1.4, label=words)
        axes.set(yscale="log", ylim=(ROUNDING_BITS, 3 * exact.max()), title=tunnel)
        axes.set(xlabel="observations since the symbol that was exchanged, w", ylabel="KL of the predictions, bits")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)

    return Picture("forgetting", "", "", draw, size=(5.4, 3.8))

"""The figures and tables of docs/instruments.md, from records: python scripts/instruments.py [RUNS]

RUNS (default `runs`) holds the sweeps `extrapolation`, `convergence`, `em` and `em_adaptive`, and under `single` a
study of `recall` that was run with `probe.every`; `windtunnel probe` must have run on the first two. Figures and tables
whose records are missing are left as they are.
"""

import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from page import fill, table
from windtunnel import records
from windtunnel.instruments.speed import learning_curve, median, speedup, steps_to_threshold, typical
from windtunnel.report.style import COLOURS, MARKERS
from windtunnel.report.tables import number

matplotlib.use("Agg")
from matplotlib import pyplot as plt

DOC, FIGURES = Path("docs/instruments.md"), Path("docs/instruments")
THRESHOLD = {"recall": 0.2, "hmm_sticky": 0.04}  # bits, for steps to threshold
POSITIONS = {"generalized_gaussian": "matched prior", "uniform": "no position"}
RATES = {"0.5": "o", "2": "s"}
OPTIMIZERS = ("sgd", "adamw", "muon")


def probes(root: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(row, probe.json) of every probed study."""
    return [
        (row, records.read_json(root / row["study_id"] / "probe.json"))
        for row in records.rows(root)
        if (root / row["study_id"] / "probe.json").exists()
    ]


def save(figure: Any, name: str) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / f"{name}.svg", metadata={"Date": None})
    figure.savefig(Path("/tmp") / f"instruments-{name}.png", dpi=110) if "--png" in sys.argv else None
    plt.close(figure)


def geometry(root: Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    record = next(of for row, of in probes(root) if row["position"] == "generalized_gaussian")
    keys = record["geometry"]["keys"]
    for index, head in enumerate(keys["heads"]):
        singular = head["singular"]
        axes.plot(range(1, len(singular) + 1), singular, color=COLOURS[index], marker=MARKERS[index], ms=4,
                  label=f"head {head['layer']}.{head['head']}")  # fmt: skip
        axes.plot(range(1, len(singular) + 1), head["untrained"]["singular"], color=COLOURS[index], ls=":", lw=1.2,
                  label="untrained")  # fmt: skip
    axes.axhline(math.sqrt(keys["n"] / keys["d"]), color="0.4", lw=0.8)
    axes.annotate(
        "as orthogonal as can be", (31, math.sqrt(keys["n"] / keys["d"])), ha="right", va="bottom", fontsize=8
    )
    axes.axvline(12, color="0.4", lw=0.8, ls="--")
    axes.annotate("bits of a key", (12.3, 0.05), fontsize=8)
    axes.set(xlabel="singular value of the 64 unit keys of a sequence", ylabel="size", ylim=(0, None))
    axes.legend(frameon=False, fontsize=8)
    save(figure, "geometry")


def consistency(root: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    effects = {
        "exact": "exact posterior",
        "uniform": "uniform",
        "shuffled": "another's posterior",
        "ablated": "nothing",
    }
    for index, (position, label) in enumerate(POSITIONS.items()):
        matching = [of["consistency"] for row, of in probes(root) if row["position"] == position]
        for seed, of in enumerate(matching):
            head = of["heads"][of["best"]]
            share, off = map(float, head["deviation"]), np.maximum(list(head["deviation"].values()), 1e-9)
            left.plot(list(share), off, color=COLOURS[index], marker=MARKERS[index], ms=5, lw=1,
                      label=label if not seed else None)  # fmt: skip
        for of in matching:
            for effect in of["causal"]["heads"]:
                is_best = effect["head"] == of["heads"][of["best"]]["head"]
                right.plot([place + 0.2 * index - 0.1 for place in range(len(effects))],
                           [effect[name]["bits"] for name in effects], ls="", ms=6, color=COLOURS[index],
                           marker=MARKERS[index], mfc=COLOURS[index] if is_best else "none")  # fmt: skip
    even = 1 - probes(root)[0][1]["consistency"]["uniform_score"]
    left.axhline(even, color="0.4", lw=0.8)
    left.annotate("uniform attention", (0.05, even), va="bottom", fontsize=8)
    left.set(yscale="log", xlabel="share of queries", ylabel="JSD(attention, posterior), bits")
    left.legend(frameon=False, fontsize=8)
    right.axhline(0, color="0.4", lw=0.8)
    right.set_xticks(range(len(effects)), effects.values(), fontsize=8)
    right.set(
        ylabel="ΔKL of the prediction, bits",
        yscale="symlog",
        xlabel="attention of a head (filled: the best) replaced by",
    )
    right.set_yscale("symlog", linthresh=1e-3)
    save(figure, "consistency")


def stability(root: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    styles = {"none": ("-", "as it is"), "position": ("--", "position repaired"), "dilution": (":", "content repaired"),
              "both": ("-.", "both repaired")}  # fmt: skip
    for index, (position, label) in enumerate(POSITIONS.items()):
        attentions = [of["stability"]["attention"] for row, of in probes(root) if row["position"] == position]
        for name, (style, what) in styles.items():
            kl = np.maximum([of["repair"][name] for of in attentions], 1e-5)
            left.plot(attentions[0]["x"], np.exp(np.log(kl).mean(0)), color=COLOURS[index], ls=style, lw=1.5,
                      label=f"{label}, {what}" if index or name == "none" else None)  # fmt: skip
        mass = [[at[of["head"]] for at in of["mass"]] for of in attentions]
        right.plot(
            attentions[0]["x"], np.mean(mass, axis=0), color=COLOURS[index], marker=MARKERS[index], ms=5, label=label
        )
    null = probes(root)[0][1]["stability"]["attention"]
    right.plot(null["x"], null["uniform_mass"], color="0.4", lw=1, ls=":", label="uniform attention")
    left.axhline(0.01, color="0.4", lw=0.8)
    left.annotate("τ", (0.26, 0.0105), fontsize=8)
    left.set(xscale="log", yscale="log", xlabel="length ÷ horizon", ylabel="KL(exact ‖ model), bits", ylim=(3e-4, 60))
    left.legend(frameon=False, fontsize=7)
    right.set(xscale="log", xlabel="length ÷ horizon", ylabel="mass on the right pairs ÷ exact", ylim=(0, 1.05))
    right.legend(frameon=False, fontsize=8)
    save(figure, "stability")


def convergence(root: Path) -> None:
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row, of in probes(root):
        key = row["tunnel.hypotheses"], row["tunnel.noise"], row["tunnel.prior.beta"]
        groups[key].append(of["convergence"])
    noises = sorted({key[1] for key in groups}, key=float)
    for (hypotheses, noise, beta), matching in groups.items():
        if hypotheses == "4":
            continue
        axes = panels[int(hypotheses != "2")]
        colour, used = COLOURS[noises.index(noise)], np.asarray(matching[0]["used"])
        n, exact = (np.asarray(matching[0][name])[used] for name in ("seen", "excess_exact"))
        model = np.mean([np.asarray(of["excess_model"])[used] for of in matching], axis=0)
        label = f"noise {noise}, β {beta}"
        axes.plot(n, exact, color=colour, lw=1.2, ls="-" if beta == "2" else "--")
        axes.plot(n, model, color=colour, marker=RATES[beta], ms=4, ls="", label=label)
    n = np.geomspace(4, 512, 50)
    panels[1].plot(n, 1 / (2 * n * math.log(2)), color="0.4", lw=0.8)
    panels[1].annotate("1/(2n) nats", (8, 0.11), fontsize=8)
    panels[0].set(yscale="log", title="2 hypotheses: e^(−nC)", xlabel="draws seen, n", ylabel="excess entropy, bits")
    panels[1].set(xscale="log", yscale="log", title="1,000 hypotheses: 1/(2n)", xlabel="draws seen, n")
    panels[1].legend(frameon=False, fontsize=8)
    save(figure, "convergence")
    lines = [named("hypotheses | noise | prior β | law | theory | exact | model | exact, past | model, past")]
    for key, matching in groups.items():
        rates = [f"{matching[0]['theory']:.3g}"]
        for name in ("exact", "model", "exact_past", "model_past"):
            values = [of[name] for of in matching if of[name] is not None]
            spread = f" ± {np.std(values, ddof=1):.1g}" if "model" in name and len(values) > 2 else ""
            rates.append(f"{np.mean(values):.3g}{spread}" if values else "–")
        lines.append([*key, matching[0]["kind"], *rates])
    put("convergence", lines)


def dynamics(root: Path) -> None:
    path = next(path for path in sorted(root.glob("recall-*/probe.jsonl")))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    step = [row["step"] for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for index, (name, label) in enumerate({"kl_bits": "KL, bits", "deviation": "deviation of attention, bits"}.items()):
        left.plot(step, [row[name] for row in rows], color=COLOURS[index], marker=MARKERS[index], ms=4, label=label)
    left.set(yscale="log", xlabel="step")
    names = {"orthogonality": "orthogonality of keys", "belief_r2": "belief in residual states, R²",
             "routing": "scores follow α A", "value": "values follow queries"}  # fmt: skip
    for index, (name, label) in enumerate(names.items()):
        right.plot(
            step, [row[name] for row in rows], color=COLOURS[index + 2], marker=MARKERS[index + 2], ms=4, label=label
        )
    right.set(xlabel="step", ylim=(-0.1, 1))
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
    save(figure, "dynamics")


def em(roots: list[Path]) -> None:
    """For each tunnel, optimizer and schedule: steps to the threshold at the schedule's best rate; how many times as
    fast that is as the plain optimizer at *its* best rate, paired by seed, with a 95 % interval; and the steps at the
    rate below the plain optimizer's best.
    """
    steps: dict[tuple[str, str], dict[str, dict[float, dict[str, float | None]]]] = {}
    for root in roots:
        for row in records.rows(root):
            at = steps.setdefault((row["tunnel"], row.get("train.optimizer", "sgd")), {}).setdefault(
                row["train.em"], {}
            )
            reached = steps_to_threshold(*learning_curve(root / row["study_id"]), THRESHOLD[row["tunnel"]])
            at.setdefault(float(row["train.learning_rate"]), {})[row["seed"]] = reached
    lines = [
        named("tunnel | optimizer | schedule | best rate | steps | times as fast, tuned | steps at the rate below")
    ]
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", sharex=True)
    for (tunnel, optimizer), arms in sorted(steps.items()):
        base = min(arms["{}"], key=lambda rate: median(arms["{}"][rate]))
        look = {"color": COLOURS[OPTIMIZERS.index(optimizer)], "marker": MARKERS[OPTIMIZERS.index(optimizer)]}
        for arm, rates in arms.items():
            best = min(rates, key=lambda rate: median(rates[rate]))
            tuned, below = speedup(arms["{}"][base], rates[best]), max((r for r in rates if r < base), default=base)
            schedule = "plain" if arm == "{}" else f"`{arm}`"
            lines.append(
                [
                    tunnel,
                    optimizer,
                    schedule,
                    f"{best:g}",
                    typical(rates[best]),
                    with_interval(tuned),
                    typical(rates[below]),
                ]
            )
            if arm != "{}" and tuned is not None:
                off = [[tuned.mean - tuned.low], [tuned.high - tuned.mean]]
                panels[int(tunnel != "recall")].errorbar(tuned.mean, f"{optimizer} {arm}", xerr=off, capsize=3, **look)
    for axes, name in zip(panels, ("recall", "hmm_sticky"), strict=True):
        axes.axvline(1, color="0.4", lw=0.8)
        axes.set(title=name, xlabel="times as fast as plain, each at its best rate")
        axes.tick_params(axis="y", labelsize=8)
    save(figure, "em")
    put("em", lines)


def with_interval(interval: Any) -> str:
    return "–" if interval is None else f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def heads(root: Path) -> None:
    """The table of every head of the two models, by the instrument `consistency`."""
    lines = [named("position | seed | head | score | slope | R² | ΔKL exact | uniform | ablated | content | position")]
    for row, of in probes(root):
        record = of["consistency"]
        for head, effect in zip(record["heads"], record["causal"]["heads"], strict=True):
            numbers = [f"{head['score']:.4f}", f"{head['slope']:.3f}", f"{head['r2']:.4f}"]
            numbers += [number(effect[name]["bits"]) for name in ("exact", "uniform", "ablated")]
            numbers += [f"{head['content']['r2']:.4f}", f"{head['position']['slope']:.3f}"]
            lines.append([POSITIONS[row["position"]], str(row["seed"]), f"{head['layer']}.{head['head']}", *numbers])
    put("heads", lines)


def named(head: str) -> list[str]:
    return list(head.split(" | "))


def put(name: str, lines: list[list[str]]) -> None:
    """Write a table into the document, between its marks."""
    fill(DOC, name, table(lines[0], lines[1:]))


def main(runs: Path) -> None:
    if (runs / "extrapolation").exists():
        for make in (geometry, consistency, stability, heads):
            make(runs / "extrapolation")
    if (runs / "convergence/sweep.json").exists() and probes(runs / "convergence"):
        convergence(runs / "convergence")
    if list((runs / "single").glob("recall-*/probe.jsonl")):
        dynamics(runs / "single")
    if (runs / "em").exists() and (runs / "em_adaptive").exists():
        em([runs / "em", runs / "em_adaptive"])


if __name__ == "__main__":
    main(Path(next((word for word in sys.argv[1:] if word[:1] != "-"), "runs")))

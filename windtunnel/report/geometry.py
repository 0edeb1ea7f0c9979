"""The picture of what `windtunnel probe` recorded: how orthogonal keys are, beside their nulls. Every entry is
optional, because a study may not have been probed, or only with other instruments.
"""

from pathlib import Path
from typing import Any

from windtunnel import records
from windtunnel.records.groups import Group
from windtunnel.report.figures import drawable, readable
from windtunnel.report.style import FAINT, INK, SOFT, Picture, look

NULLS = {"untrained": "s", "shuffled": "D"}


def probes(root: Path, group: Group) -> list[dict[str, Any]]:
    """The probe records of the group, for the studies that have one."""
    paths = [root / row["study_id"] / "probe.json" for row in group.done]
    return [probe for path in paths if (probe := readable(records.read_json, path))]


def geometry_picture(root: Path, groups: list[Group]) -> Picture | None:
    """A line per group with a dot per seed: the key orthogonality of the most orthogonal head, and that of its
    nulls.
    """
    lines = []
    for index, group in enumerate(drawable(groups)):
        probed = [keys for keys in (dig(probe, "geometry", "keys") for probe in probes(root, group)) if keys]
        best = [dig(keys, "heads", dig(keys, "best")) for keys in probed]
        best = [head for head in best if isinstance(dig(head, "score"), float)]
        if best:
            lines.append((index, group, best, dig(probed[0], "chance_score")))
    if not lines:
        return None

    def draw(figure: Any, wide: bool) -> None:
        axes = figure.subplots()
        for y, (index, _, heads, chance) in enumerate(lines):
            axes.axhline(y, color=FAINT, lw=0.6)
            for null, marker in NULLS.items():
                scores = [dig(head, null, "score") for head in heads]
                scores = [score for score in scores if score is not None]
                label = null if null not in axes.get_legend_handles_labels()[1] else None
                style = {"ls": "", "marker": marker, "ms": 6, "mfc": "none", "color": SOFT}
                axes.plot(scores, [y + 0.18] * len(scores), label=label if scores else None, **style)
            axes.plot([head["score"] for head in heads], [y] * len(heads), label="trained" if y == 0 else None,
                      ls="", marker="o", ms=6, color=look(index)["color"])  # fmt: skip
            if chance is not None:
                axes.plot([chance] * 2, [y - 0.3, y + 0.3], color=INK, lw=1, label="chance" if y == 0 else None)
        axes.set_yticks(range(len(lines)), [group.name for _, group, _, _ in lines])
        axes.set(ylim=(len(lines) - 0.5, -0.5), xlabel="key orthogonality (1: as orthogonal as n keys in d can be)")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)

    return Picture(
        "geometry",
        "Key geometry, and its nulls",
        "How orthogonal the keys of different hypotheses are in each model's most orthogonal head. It means something "
        "only as far as it differs from a random initialisation of that shape, from shuffled labels and from chance.",
        draw,
        size=(4.3, 1.5 + 0.4 * len(lines)),
    )


def dig(tree: Any, *path: Any) -> Any:
    """The value at the end of a path of keys and indices; None if the path does not exist."""
    for part in path:
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            return None
    return tree

"""`make primitives`: the settings that are exact to 500 horizons, into docs/extrapolation.md, from their records."""

from pathlib import Path

from page import fill, table
from windtunnel.records.groups import Group, gather
from windtunnel.report.numbers import lengths, number, with_interval

ROOT, DOC = Path("runs/primitives"), Path("docs/extrapolation.md")
RUN = "windtunnel run -m tunnel="
SETTINGS = {  # by the tunnel (not its preset) and the model: the primitive, and how its records are made
    ("recall", "transformer"): ("bind", f"{RUN}recall 'seed=range(5)'"),
    ("markov", "transformer"): ("accumulate", f"{RUN}die 'seed=range(5)'"),
    ("hmm", "gru"): ("transport", f"{RUN}hmm_far model=gru train.steps=2000 'seed=range(5)'"),
    # Seeds 0 to 5 chose its number of slots (docs/depth.md), so it is judged on others.
    ("hmm", "belief"): (
        "transport",
        f"{RUN}hmm_far model=belief train.steps=2000 train.learning_rate=0.02 'seed=range(11,16)'",
    ),
}
HEAD = "primitive | command, with {} | KL in range | KL past | headroom | ratio | verdict"
ALIKE = "`evaluate.reach=500 evaluate.examples=32`"


def line(primitive: str, command: str, group: Group) -> list[str]:
    return [
        primitive,
        f"`{command}`",
        with_interval(group.interval("kl_bits")),
        with_interval(group.interval("kl_bits_past")),
        number(group.interval("headroom_bits_past").mean),
        lengths(group, "extrapolation_ratio"),
        group.verdict,
    ]


def main() -> None:
    groups = {tuple(group.key.values()): group for group in gather(sorted(ROOT.iterdir()), ["tunnel", "model"])}
    lines = [line(*setting, groups[key]) for key, setting in SETTINGS.items()]
    fill(DOC, "primitives", table(HEAD.format(ALIKE).split(" | "), lines, range(2, 6)))


if __name__ == "__main__":
    main()

"""`make depth`: run `+sweep=depth` model by model, then fill docs/depth.md: python scripts/depth.py [--minutes 90]

Each model is trained on each tunnel at two rates with seed 0, judged to 50 horizons at most, then with five fresh seeds
at the rate whose KL past the horizon is smaller. What says most comes first; what does not begin within so many minutes
is a row `not run`. What is done is not run again.
"""

import itertools
import sys
import time
from pathlib import Path

import numpy as np

import page
from stages import done, train
from windtunnel import records
from windtunnel.records.groups import Group, groups
from windtunnel.report.numbers import lengths, number, with_interval

RUNS, DOC, MINUTES = Path("runs/depth"), Path("docs/depth.md"), 90.0
MODELS = ["belief", "gru_narrow", "feedback", "segments", "memory", "belief_content", "narrow", "looped_narrow"]
TUNNELS = ["hmm_far", "hmm_slow", "hops", "shuffle"]
SEEDS = "11,12,13,14,15"  # 0 to 5 chose the number of slots
FIRST = [("hmm_far", ["segments", "feedback", "belief", "gru_narrow", "memory"]),
         ("shuffle", ["gru_narrow", "belief_content", "feedback", "narrow"]), ("hmm_far", ["narrow", "looped_narrow"]),
         ("hops", ["narrow", "looped_narrow", "feedback"]), ("hmm_slow", ["belief_content", "gru_narrow"])]  # fmt: skip
CELLS = [(tunnel, model) for tunnel, models in FIRST for model in models]
CELLS += [cell for cell in itertools.product(TUNNELS, MODELS) if cell not in CELLS]
OWN = {("shuffle", "belief_content"): ["model.slots=24"]}  # as many as the filter has
REACH = {"hops": 8, "narrow": 50, "looped_narrow": 50}  # where 500 takes too long
HEAD = ["model", "rate", "KL in range", "KL past", "holds to", "bins above τ", "verdict", "parameters", "seconds"]


def command(tunnel: str, model: str, stage: str, *overrides: str) -> tuple[Path, list[str]]:
    runs = RUNS / tunnel / model / stage
    words = ["windtunnel", "run", "+sweep=depth", f"tunnel={tunnel}", f"model={model}"]
    reach = min(REACH.get(tunnel, 500), REACH.get(model, 500), 50 if stage == "rates" else 500)
    own = [f"evaluate.reach={reach}", *OWN.get((tunnel, model), [])]
    return runs / "depth", [*words, *own, *overrides, f"runs={runs}"]


def above(root: Path, group: Group) -> str:
    """In how many bins past the horizon the mean is above τ, errors or not: the fewest and the most of the seeds."""
    counts, bins = [], 0
    for row in group.done:
        curves = records.read_curves(root / row["study_id"] / "curves.npz")
        past = curves["first"] > row["horizon"]
        bins = int(past.sum())
        counts.append(int(np.sum(~(curves["kl_bits"][past] <= row["evaluate"]["tolerance"]))))
    low, high = min(counts), max(counts)
    return f"{low} of {bins}" if low == high else f"{low} to {high} of {bins}"


def line(tunnel: str, model: str) -> list[str]:
    root, _ = command(tunnel, model, "seeds")
    rows = done(root)
    if not rows:
        return [f"`{model}`", *page.not_run(len(HEAD) - 1)]
    group = groups(records.rows(root), ["tunnel"])[0]
    seconds = np.mean([row["train_seconds"] for row in rows])
    intervals = [with_interval(group.interval(name)) for name in ("kl_bits", "kl_bits_past")]
    return [f"`{model}`", f"{rows[0]['train.learning_rate']:g}", *intervals, lengths(group, "critical_length"),
            above(root, group), group.verdict, f"{rows[0]['parameters']:,}", f"{seconds:.0f}"]  # fmt: skip


def facts(tunnel: str) -> str:
    rows = [row for model in MODELS for row in done(command(tunnel, model, "seeds")[0])]
    if not rows:
        return "Not run."
    row = max(rows, key=lambda row: row["reach"])
    gap, length = number(row["headroom_bits_past"]), row["horizon"] * row["reach"]
    return (
        f"Horizon {row['horizon']}, judged to {length:,.0f} observations; the best reasoner that sees less is {gap} "
        f"bits off past the horizon; τ = {row['evaluate']['tolerance']:g}; {row['steps']:,} steps."
    )


def main() -> None:
    minutes = float(sys.argv[sys.argv.index("--minutes") + 1]) if "--minutes" in sys.argv else MINUTES
    train(CELLS, command, [f"seed={SEEDS}"], "kl_bits_past", time.monotonic() + 60 * minutes)
    for tunnel in TUNNELS:
        table = page.table(HEAD, [line(tunnel, model) for model in MODELS], [1, 2, 3, 4, 5, 7, 8])
        page.fill(DOC, tunnel, f"{facts(tunnel)}\n\n{table}")


if __name__ == "__main__":
    main()

"""`make verdicts`: what the rules of a verdict say of planted models, and what the rules before them said, into
docs/verdicts.md. Nothing is trained: a model is its KL at every scored observation of every sequence.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from page import fill, table
from windtunnel.bins import bins
from windtunnel.decide import curve, decide, mean_and_error, outcome
from windtunnel.report.numbers import number

DOC = Path("docs/verdicts.md")
HORIZON, LENGTH, TAU, SEQUENCES, DRAWS = 32, 1024, 0.01, 64, 40
BINS = bins(HORIZON, LENGTH)
PAST_P = BINS.past_P > 0
GOOD = 1e-3  # bits
HEADROOM = np.full(len(BINS.each), 0.3)
Plant = Callable[[np.random.Generator, int], np.ndarray]


def flat(kl: np.ndarray | float, noise: float = 0.2) -> Plant:
    """KL [P] everywhere alike, each prediction off by a factor of its own."""

    def plant(random: np.random.Generator, count: int) -> np.ndarray:
        shape = (count, len(BINS.at))
        return np.broadcast_to(kl, shape) * random.gamma(1 / noise**2, noise**2, shape)

    return plant


def some_bad(share: float, bits: float) -> Plant:
    """Good, but for a share of sequences that are so many bits wrong everywhere past the horizon."""

    def plant(random: np.random.Generator, count: int) -> np.ndarray:
        kl_BP = flat(GOOD)(random, count)
        bad_B = random.random(count) < share
        return np.where(bad_B[:, None] & PAST_P[None], bits, kl_BP)

    return plant


def exactly_bad(number: int, bits: float) -> Plant:
    """The same, with so many bad ones among the first 64."""

    def plant(random: np.random.Generator, count: int) -> np.ndarray:
        kl_BP = flat(GOOD)(random, count)
        kl_BP[:: SEQUENCES // number, PAST_P] = bits
        return kl_BP

    return plant


def infinite(random: np.random.Generator, count: int) -> np.ndarray:
    kl_BP = flat(GOOD)(random, count)
    kl_BP[0, -1] = np.inf
    return kl_BP


NEAR_P = BINS.number_P < BINS.beyond[2]
BAD_PLACE_P = np.where(np.arange(len(BINS.at)) < 4, 0.06, GOOD / 10)
MODELS: dict[str, Plant] = {
    "exact to 1e-3 bits everywhere": flat(GOOD),
    "0.3 bits off everywhere": flat(0.3),
    "1 sequence of 64 is 10 bits wrong past the horizon": exactly_bad(1, 10.0),
    "2 sequences of 64 are 2 bits wrong past the horizon": exactly_bad(2, 2.0),
    "exactly τ past the horizon": flat(np.where(PAST_P, TAU, GOOD), noise=1.0),
    "holds for two bins past the horizon, then 0.7 bits": flat(np.where(NEAR_P, GOOD, 0.7)),
    "0.06 bits at the first four observations, exact elsewhere": flat(BAD_PLACE_P),
    "one infinite KL at the far end": infinite,
}


def before(kl_BP: np.ndarray) -> str:
    """The rules until schema 1: a bin holds if mean − 2 SE ≤ τ, and one bin with headroom proves all."""
    weight_BP = np.ones(kl_BP.shape)
    if not mean_and_error(kl_BP, weight_BP * BINS.inside_P)[0] <= TAU:
        return "fails in range"
    means, errors = curve(BINS, kl_BP, weight_BP)
    holding = [i for i in BINS.beyond if means[i] - 2 * errors[i] <= TAU]
    failing = next((i for i in BINS.beyond if i not in holding), None)
    if failing is None:
        return "extrapolates"
    return "extrapolates in part" if failing > BINS.beyond[0] else "stops near the horizon"


def now(plant: Plant, random: np.random.Generator, most: int = 1024) -> tuple[str, int]:
    """The verdict, and how many sequences it took."""
    kl_BP, count = plant(random, SEQUENCES), SEQUENCES
    while True:
        decision = decide(BINS, kl_BP, np.ones(kl_BP.shape), TAU)
        if not decision.open or count >= most:
            return outcome(decision, HEADROOM, TAU), count
        kl_BP, count = np.concatenate([kl_BP, plant(random, count)]), 2 * count


def counted(words: list[str]) -> str:
    return ", ".join(f"{word} ({count} of {len(words)})" if count < len(words) else word
                     for word, count in Counter(words).most_common())  # fmt: skip


def main() -> None:
    lines = []
    for name, plant in MODELS.items():
        old = [before(plant(np.random.default_rng(seed), SEQUENCES)) for seed in range(DRAWS)]
        verdicts, counts = zip(*(now(plant, np.random.default_rng(seed)) for seed in range(DRAWS)), strict=True)
        past = np.mean([plant(np.random.default_rng(seed), SEQUENCES)[:, PAST_P].mean() for seed in range(DRAWS)])
        kl_past = number(float(past)) if np.isfinite(past) else "∞"
        lines.append([name, kl_past, counted(old), counted(list(verdicts)), f"{np.median(counts):.0f}"])
    head = ["planted model", "KL past", "said before", "says now", "sequences, median"]
    fill(DOC, "rules", table(head, lines, [1, 4]))
    unseen = []
    for count in (64, 256, 600, 1024):
        draws = [some_bad(1 / 200, 10.0)(np.random.default_rng(seed), count) for seed in range(400)]
        missed = np.mean([kl_BP[:, PAST_P].max() < 1 for kl_BP in draws])
        unseen.append([f"{count:,}", f"{0.995**count:.2g}", f"{missed:.2g}", f"{3 / count:.1%}"])
    head = ["sequences n", "(1 − 1/200)ⁿ", "unseen in 400 draws", "3/n"]
    fill(DOC, "unseen", table(head, unseen, range(4)))


if __name__ == "__main__":
    main()

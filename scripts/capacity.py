"""How many pairs a memory holds: python scripts/capacity.py FOLDER …

Of models of `recall` with a uniform prior and no noise, in which attention sees a window and the memory all else. Every
pair stored so far may be asked for, so observation n has n live pairs. A reasoner that remembers w of them and knows
nothing of the others has a share 1 − w/n of the KL of one that remembers none (KL₀). So a model is as good as one that
remembers w = n (1 − KL/KL₀) pairs, its window included, which saturates at what its memory holds. A row has w by n.
"""

import sys
from pathlib import Path

import numpy as np

from page import table
from windtunnel import records
from windtunnel.report.numbers import number

LIVE = (4, 8, 12, 16, 24, 32, 48, 64)
HEAD = ["memory", "room", "window", "KL in range", *(f"w of {n}" for n in LIVE)]


def cells(folder: Path) -> list[str]:
    model = records.read_study(folder)["study"]["model"]
    curves = records.read_curves(folder / "curves.npz")
    heads, d = model["heads"], model["width"] // model["heads"]
    memory, room = (f"{heads} × {d} × {d}", d) if model["store"] == "delta" else ("slots", model["slots"])
    live = (curves["first"] + curves["last"]) / 2
    known = live * (1 - curves["kl_bits"] / curves["baseline/prior"])
    remembered = [np.interp(n, live, known) if n <= curves["last"][-1] else np.nan for n in LIVE]
    kl = number(records.read_result(folder)["kl_bits"])
    return [memory, f"{room}", f"{model['window']}", kl, *("" if np.isnan(w) else f"{w:.1f}" for w in remembered)]


def main() -> None:
    print(table(HEAD, [cells(Path(folder)) for folder in sys.argv[1:]], range(1, len(HEAD))))


if __name__ == "__main__":
    main()

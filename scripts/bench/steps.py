"""The rows that measure steps per second: one study, a sweep, the published size."""

import subprocess
import sys
from functools import partial
from statistics import median

from bench.table import Line
from bench.workers import PAPER, ROUNDS, SMALL, THREADS, Contender, Shape, alternate, ours, pytorch

STEPS, STUDIES = 1000, 24  # of a study by default; 8 seeds × 3 rates
KINDS = {"compiled": "torch.compile", "eager": "PyTorch eager"}


def pytorches(shape: Shape, kinds: list[str], optimizer: str = "muon") -> list[Contender]:
    """Each kind with one thread and with one thread per core; the faster of the two counts."""
    return [Contender(f"{kind} {n}", pytorch(shape, kind, n, optimizer)) for kind in kinds for n in THREADS]


def best(rates: dict[str, list[float]], kind: str) -> int:
    """The number of threads with which a kind is fastest."""
    return max(THREADS, key=lambda n: median(rates[f"{kind} {n}"]))


def against(what: str, rates: dict[str, list[float]], kind: str, must: float | None, detail: str = "") -> Line:
    threads = best(rates, kind)
    name = f"{KINDS[kind]}, {threads} thread{'s' * (threads > 1)}"
    return Line(f"{what}: steps/s", name, rates["windtunnel"], rates[f"{kind} {threads}"], must, detail)


def study() -> list[Line]:
    """One study of 100 thousand parameters, with Muon and with AdamW."""
    lines = []
    for optimizer, musts in (("muon", (1.3, 3.5)), ("adamw", (None, None))):
        contenders = [Contender("windtunnel", ours(SMALL, 1, optimizer)), *pytorches(SMALL, list(KINDS), optimizer)]
        rates = alternate(contenders)
        what = f"one study of 100k parameters, {optimizer}"
        lines += [against(what, rates, kind, must) for kind, must in zip(KINDS, musts, strict=True)]
    return lines


def sweep() -> list[Line]:
    """24 studies of 1,000 steps, including the start of processes. In every round each contender is started and
    measured once; its total time is (starts) × (seconds until ready) + (24,000 steps) / (steps per second).
    """
    tried = alternate(pytorches(SMALL, list(KINDS)))
    by_compiler, eager = (pytorch(SMALL, kind, best(tried, kind)) for kind in KINDS)
    alone = pytorch(SMALL, "compiled", 1)
    contenders = {
        "windtunnel": (1, [ours(SMALL, STUDIES)]),
        "torch.compile, one study after the other": (1, [by_compiler]),
        "torch.compile, two processes of one thread": (1, [alone, alone]),
        "PyTorch eager, a process a study": (STUDIES, [eager]),
    }
    ready, rates, whole = ({name: [] for name in contenders} for _ in range(3))
    for _ in range(ROUNDS):
        for name, (starts, commands) in contenders.items():
            contender = Contender(name, *commands)
            rate = [contender.advance() for _ in range(3)][-1]
            contender.close()
            ready[name].append(contender.setup)
            rates[name].append(rate)
            whole[name].append(STUDIES * STEPS / (starts * contender.setup + STUDIES * STEPS / rate))
    lines = []
    for name, must in zip(list(contenders)[1:], (1.6, 1.2, 5.0), strict=True):
        detail = "; ".join(
            f"ready in {median(ready[n]):.1f} s, then {median(rates[n]):.0f}" for n in ("windtunnel", name)
        )
        what = "24 studies of 1,000 steps, set-up included: model-steps/s"
        lines.append(Line(what, name, whole["windtunnel"], whole[name], must, detail))
    return lines


def paper() -> list[Line]:
    """The published size, and its share of the rate of the machine's fastest matrix product."""
    rates = alternate([Contender("windtunnel", ours(PAPER)), *pytorches(PAPER, ["eager"])])
    count = partial(subprocess.run, capture_output=True, text=True, check=True)
    flop, peak = map(float, count([sys.executable, "-m", "bench.flops"], cwd=sys.path[0]).stdout.split())
    gflops = [rate * flop / 1e9 for rate in rates["windtunnel"]]
    what = "one study of the published size"
    return [
        against(what, rates, "eager", 0.9),
        Line(f"{what}: GFLOP/s", "the machine's best matrix product", gflops, [peak] * len(gflops), 0.5,
             f"{flop / 1e9:.1f} GFLOP a step; the 0.5 is a stretch"),
    ]  # fmt: skip

"""How far lesser reasoners are from the exact one, before anything is trained: `headroom.py tunnel=hops`.

Takes the overrides of `windtunnel run` and prints, for every baseline, its KL in bits in range and past the horizon,
by domain where prompts are mixed, and by the number of hops where questions have one. What is below ten tolerances
proves nothing.
"""

import sys

from windtunnel.compare import by_hops, verdict
from windtunnel.compose import compose
from windtunnel.judge import Judge

study, _ = compose(sys.argv[1:])
judge, farther = Judge(), study.problem.farther or study.problem
exact = judge.exact(study.problem)
numbers, curves = verdict(study.problem, exact, exact.log_predictive)
for name, gap in numbers["baselines"].items():
    print(f"{name:>16}  {gap['kl_bits']:8.2g}  {gap['kl_bits_past'] or float('nan'):8.2g}")
print(f"{'headroom':>16}  {numbers['headroom_bits']:8.2g}  {numbers['headroom_bits_past'] or float('nan'):8.2g}")
print("exact entropy, by bin:", *(f"{entropy:.2f}" for entropy in curves["entropy_bits_exact"]))
print("headroom, by bin:", *(f"{headroom:.2f}" for headroom in curves["headroom_bits"]))
for number, domain in enumerate(numbers.get("domains", [])):
    inside, past = domain["headroom_bits"], domain["headroom_bits_past"] or float("nan")
    print(f"{f'domain {number}':>16}  {inside:8.2g}  {past:8.2g}")
if exact.asked is not None:
    exact = judge.exact(farther)
    _, curves = by_hops(farther, exact, exact.log_predictive)
    for name, curve in curves.items():
        if name.startswith("hops/baseline/"):
            print(f"{name.removeprefix('hops/baseline/'):>16}, by hops:", *(f"{gap:.2f}" for gap in curve))

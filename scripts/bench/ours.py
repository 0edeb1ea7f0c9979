"""windtunnel's worker in the benchmarks of steps per second: `ours.py STUDIES OVERRIDE…`. The studies differ in seed
and in one of three rates; all are in one compiled program.
"""

import sys

import jax

from windtunnel.compose import compose
from windtunnel.sweep.packs import Program, use_all_cores

RATES = 0.02, 0.035, 0.05


def main() -> None:
    count, overrides = int(sys.argv[1]), sys.argv[2:]
    use_all_cores()
    knobs = [(f"seed={i // 3}", f"train.learning_rate={RATES[i % 3]}") for i in range(count)]
    program = Program([compose([*overrides, *pair])[0] for pair in knobs])
    state, kl_bits = program.advance(program.start(), 1)
    jax.block_until_ready(kl_bits)
    print("ready", flush=True)
    for line in sys.stdin:
        done, steps, kl_bits = 0, int(line), None
        while done < steps:
            size = min(128, steps - done)
            state, kl_bits = program.advance(state, size)
            done += size
        jax.block_until_ready(kl_bits)
        print(count * steps, flush=True)


if __name__ == "__main__":
    main()

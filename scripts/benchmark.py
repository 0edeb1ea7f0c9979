"""`make bench`: compile seconds, model-steps a second and the cost of a long evaluation, on this machine.

Compare figures from one run only, as ratios: machines are noisy.
"""

import time
from statistics import median

import jax
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from windtunnel.conf import folder
from windtunnel.config import Study, door
from windtunnel.progress import console
from windtunnel.sweep.packs import Program, use_all_cores

STEPS, REPEATS = 60, 5
CASES = {
    "recall": [],
    "recall, rope": ["position=rope"],
    "recall, reach 128": ["evaluate.reach=128"],
    "bijection": ["tunnel=bijection"],
}


def study(overrides: list[str]) -> Study:
    with initialize_config_dir(str(folder()), version_base="1.3"):
        plain = OmegaConf.to_container(compose("config", overrides=overrides), resolve=True)
    return door(plain)[0]  # type: ignore[arg-type]


def seconds(function) -> float:
    began = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - began


def main() -> None:
    use_all_cores()
    out = console()
    out.print(f"{jax.device_count()} × {jax.devices()[0].device_kind}, jax {jax.__version__}")
    for name, overrides in CASES.items():
        for seeds in (1, 2, 3):
            program = Program([study([*overrides, f"seed={seed}"]) for seed in range(seeds)])
            state, _ = program.advance(program.start(), 1)
            rates = []
            for _ in range(REPEATS):
                began = time.perf_counter()
                state, kl_bits = program.advance(state, STEPS)
                jax.block_until_ready(kl_bits)
                rates.append(seeds * STEPS / (time.perf_counter() - began))
            program.predict(state.params)  # compiles
            judged = seconds(lambda program=program, state=state: program.predict(state.params)) / seeds
            out.print(
                f"{name:20} pack of {seeds}: compiled {program.compile_seconds:.1f} s, {median(rates):5.1f} steps/s, "
                f"judged in {judged:.2f} s a study"
            )


if __name__ == "__main__":
    main()

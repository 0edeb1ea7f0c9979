"""The command `windtunnel`; at its end it prints to stderr how many seconds XLA compiled."""

import sys

import jax.monitoring

from windtunnel.cli import main

COMPILING = "/jax/core/compile/jaxpr_to_mlir_module_duration", "/jax/core/compile/backend_compile_duration"


def run() -> None:
    seconds: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event in COMPILING:
            seconds.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    main()
    print(sum(seconds), file=sys.stderr)


if __name__ == "__main__":
    run()

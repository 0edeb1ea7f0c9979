"""Memory that a study needs at the very least, known before anything is compiled: what can never fit is refused."""

from typing import Any

from windtunnel.config import Study
from windtunnel.errors import BadInput
from windtunnel.sweep.memory import amount, available

NUMBER = 4  # bytes


def least(study: Study) -> dict[str, int]:
    """{what makes it large: bytes}: lower bounds, each of something that is in memory whole at one time."""
    tunnel, model, train, evaluate = study.tunnel, study.model, study.train, study.evaluate
    trained, judged = tunnel.tokens(study.horizon), tunnel.tokens(study.problem.length)
    width = f"model.layers={model.layers} model.width={model.width}"
    batch = f"train.batch={train.batch} train.horizon={study.horizon}"
    return {
        # parameters, their gradients and one moment of the optimizer
        width: 3 * NUMBER * model.weights,
        # what one layer passes on, and the exact predictive
        f"{batch} model.width={model.width}": NUMBER * train.batch * trained * model.width,
        batch: NUMBER * train.batch * study.horizon * tunnel.outcomes,
        f"train.steps={train.steps}": 2 * NUMBER * train.steps,  # two learning curves
        f"evaluate.reach={evaluate.reach:g} train.horizon={study.horizon}": NUMBER
        * judged
        * (model.width if model.heads else 1),
        f"evaluate.examples={evaluate.examples}": NUMBER * evaluate.examples * tunnel.outcomes,
        f"tunnel.pool={tunnel.pool}": NUMBER * (tunnel.pool or 0),
    }


def refuse_impossible(points: list[Any], devices: int) -> None:
    """`BadInput` with the estimate where a study needs more memory than all devices together still have."""
    there = available() * devices
    for study in {point.id: point.study for point in points}.values():
        keys, need = max(least(study).items(), key=lambda item: item[1])
        if need > there:
            raise BadInput(
                f"{keys}: needs at least {amount(need)} of memory, and there is {amount(there)}; give smaller numbers"
            )

"""What of a study is watched while it trains, what goes wrong on purpose, and what is done about it (`monitor`).

Thresholds are the seed's where it has one. What only watches is not in a study's name; what shapes its parameters is.
"""

from dataclasses import replace
from typing import Annotated, Self

from pydantic import Field

from windtunnel.faults import Fault, Step
from windtunnel.spec import Knob, NonNegative, Positive, Real, spec

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), Knob]


@spec
class Recover:
    """What is done where a monitor fails that was good before, each at most `tries` times (0: nothing is done).

    Orthogonality below `orthogonality`: the polar factor of every W_K at its old norm, its moments forgotten. KL above
    `kl_bits`: exact softmax in place of an approximation; where that is what runs, the closed form, where the tunnel
    has one, else the last parameters that were good. Not finite: the last that were good, at half the rate. More than
    `tokens` (0: never) are attended to hierarchically.
    """

    tries: Annotated[int, Field(ge=0, le=100), Knob] = 0
    orthogonality: Share = 0.7
    kl_bits: Positive = 0.1
    tokens: Annotated[int, Field(ge=0, lt=2**31)] = 0


@spec
class Monitor:
    """A check `every` so many steps (0: none), on so many `examples` that neither training nor judgement sees; the
    others are thresholds (`monitor/monitors.py`). With `costs`, the last check also measures what a prediction costs.
    """

    every: Step = 0
    examples: Annotated[int, Field(ge=2, le=1024)] = 16
    costs: bool = False
    orthogonality: Share = 0.9
    orthogonality_rms: Share = 0.0
    coverage: Share = 0.8
    separation: Share = 0.7
    kl_bits: Positive = 0.01
    extrapolation_ratio: NonNegative = 100.0
    cost_exponent: Real = 1.2
    memory_exponent: Real = 1.2
    latency_ms: Positive = 1.0
    entropy_bits: NonNegative = 0.1
    largest_logit: Positive = 50.0
    missed: Positive = 0.01
    order_bits: Positive = 0.01
    drift_bits: Positive = 0.01
    fault: Fault = Fault()
    recover: Recover = Recover()

    @property
    def shaping(self) -> Self:
        """What of it shapes the parameters: everything where something may be done, else the fault alone."""
        if self.recover.tries or self.recover.tokens:
            return self
        return replace(type(self)(), fault=self.fault if self.fault.name else Fault())

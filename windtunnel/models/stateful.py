"""The specs of models that carry a state of fixed size from token to token."""

from typing import Literal

from windtunnel.models.base import Model
from windtunnel.spec import Size, spec


@spec
class Gru(Model):
    """L layers of D gated recurrent units."""

    name: Literal["gru"] = "gru"
    module = "recurrent.Gru"
    residual = True
    layers: Size = 3
    width: Size = 136

    @property
    def weights(self) -> int:
        return self.layers * 6 * self.width**2


@spec
class Lstm(Model):
    """L layers of D long short-term memory units."""

    name: Literal["lstm"] = "lstm"
    module = "recurrent.Lstm"
    residual = True
    layers: Size = 3
    width: Size = 118

    @property
    def weights(self) -> int:
        return self.layers * 8 * self.width**2


@spec
class Ssm(Model):
    """L selective state spaces of 2D channels with `states` states each."""

    name: Literal["ssm"] = "ssm"
    module = "ssm.Selective"
    residual = True
    layers: Size = 3
    width: Size = 128
    states: Size = 8

    @property
    def weights(self) -> int:
        return self.layers * 4 * self.width**2


@spec
class Ssd(Model):
    """L state-space duals of 2D channels in heads of `head` channels, with `states` states for each channel: a head's
    state is a matrix of states × head.
    """

    name: Literal["ssd"] = "ssd"
    module = "ssd.Dual"
    residual = True
    layers: Size = 3
    width: Size = 124
    head: Size = 31
    states: Size = 64

    @property
    def weights(self) -> int:
        return self.layers * self.width * (6 * self.width + 2 * self.states)

    @property
    def conflict(self) -> str | None:
        return f"head={self.head}: must divide 2 × model.width={2 * self.width}" if 2 * self.width % self.head else None

"""The wind tunnels: data whose Bayesian posterior is known in closed form. One file each."""

from typing import Annotated

from pydantic import Field

from windtunnel.tunnels.base import Batch, Tables, Tunnel
from windtunnel.tunnels.bijection import Bijection
from windtunnel.tunnels.recall import Recall

AnyTunnel = Annotated[Bijection | Recall, Field(discriminator="name")]

__all__ = ["AnyTunnel", "Batch", "Bijection", "Recall", "Tables", "Tunnel"]

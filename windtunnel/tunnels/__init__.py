"""The wind tunnels: data whose Bayesian posterior is known in closed form. One file each."""

from typing import Annotated

from windtunnel.spec import Family
from windtunnel.tunnels.adaptive import RecallAdaptive
from windtunnel.tunnels.bandit import Bandit
from windtunnel.tunnels.base import Batch, Tables, Tunnel
from windtunnel.tunnels.bijection import Bijection
from windtunnel.tunnels.echo import Echo
from windtunnel.tunnels.fusion import Fusion
from windtunnel.tunnels.hmm import Hmm
from windtunnel.tunnels.hops import Hops
from windtunnel.tunnels.markov import Markov
from windtunnel.tunnels.mixture import Mixture
from windtunnel.tunnels.permutation import Permutation
from windtunnel.tunnels.recall import Recall
from windtunnel.tunnels.recurrence import Recurrence
from windtunnel.tunnels.regression import Regression
from windtunnel.tunnels.shuffle import Shuffle
from windtunnel.tunnels.switching import Switching
from windtunnel.tunnels.tree import Tree
from windtunnel.tunnels.urn import Urn

TUNNELS = Family(
    Tunnel,
    Bandit,
    Bijection,
    Echo,
    Fusion,
    Hmm,
    Hops,
    Markov,
    Mixture,
    Permutation,
    Recall,
    RecallAdaptive,
    Recurrence,
    Regression,
    Shuffle,
    Switching,
    Tree,
    Urn,
)
AnyTunnel = Annotated[Tunnel, TUNNELS]

__all__ = [
    "TUNNELS",
    "AnyTunnel",
    "Bandit",
    "Batch",
    "Bijection",
    "Echo",
    "Fusion",
    "Hmm",
    "Hops",
    "Markov",
    "Mixture",
    "Permutation",
    "Recall",
    "RecallAdaptive",
    "Recurrence",
    "Regression",
    "Shuffle",
    "Switching",
    "Tables",
    "Tree",
    "Tunnel",
    "Urn",
]

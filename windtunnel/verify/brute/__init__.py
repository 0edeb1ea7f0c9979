"""The judges: for every tunnel, exact answers by enumeration."""

from windtunnel import plugins
from windtunnel.verify.brute.adaptive import RecallAdaptive
from windtunnel.verify.brute.bandit import Bandit
from windtunnel.verify.brute.base import Brute
from windtunnel.verify.brute.bijection import Bijection
from windtunnel.verify.brute.echo import Echo
from windtunnel.verify.brute.fusion import Fusion
from windtunnel.verify.brute.hmm import Hmm
from windtunnel.verify.brute.hops import Hops
from windtunnel.verify.brute.markov import Markov
from windtunnel.verify.brute.mixture import Mixture
from windtunnel.verify.brute.permutation import Permutation
from windtunnel.verify.brute.recall import Recall
from windtunnel.verify.brute.recurrence import Recurrence
from windtunnel.verify.brute.regression import Regression
from windtunnel.verify.brute.shuffle import Shuffle
from windtunnel.verify.brute.switching import Switching
from windtunnel.verify.brute.tree import Tree
from windtunnel.verify.brute.urn import Urn

BRUTES: dict[str, type[Brute]] = {
    "recall": Recall,
    "fusion": Fusion,
    "recall_adaptive": RecallAdaptive,
    "hops": Hops,
    "bijection": Bijection,
    "permutation": Permutation,
    "urn": Urn,
    "regression": Regression,
    "markov": Markov,
    "hmm": Hmm,
    "shuffle": Shuffle,
    "recurrence": Recurrence,
    "echo": Echo,
    "mixture": Mixture,
    "tree": Tree,
    "bandit": Bandit,
    "switching": Switching,
}


def judges() -> dict[str, type[Brute]]:
    """All judges, those of plug-ins included, by the name of their tunnel."""
    return {**BRUTES, **plugins.judges}

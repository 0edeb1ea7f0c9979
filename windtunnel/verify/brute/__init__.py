"""The judges: for every tunnel, exact answers by enumeration."""

from windtunnel.verify.brute.base import Brute
from windtunnel.verify.brute.bijection import Bijection
from windtunnel.verify.brute.recall import Recall

BRUTES: dict[str, type[Brute]] = {"recall": Recall, "bijection": Bijection}

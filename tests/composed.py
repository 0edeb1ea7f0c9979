"""Configurations as the command line composes them."""

from windtunnel import compose
from windtunnel.config import Study

# A study that trains in seconds; two of its kind share one program whatever their knobs.
TINY = (
    "tunnel.bits=3 tunnel.symbols=2 model.width=8 model.hidden=8 train.steps=4 train.batch=4 train.horizon=6 "
    "evaluate.examples=8 evaluate.most_examples=8 evaluate.reach=4"
).split()


def plain(*overrides: str) -> dict:
    return compose.plain(overrides)


def study(*overrides: str) -> Study:
    return compose.compose(overrides)[0]


def tiny(*overrides: str) -> Study:
    return study(*TINY, *overrides)

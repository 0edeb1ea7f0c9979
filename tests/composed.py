"""Configurations as the command line composes them."""

from hydra import compose, initialize_config_dir

from windtunnel.conf import folder
from windtunnel.config import Study, door
from windtunnel.sweep.launcher import as_plain

# A study that trains in seconds; two of its kind share one program whatever their knobs.
TINY = (
    "tunnel.bits=3 tunnel.symbols=2 model.width=8 model.hidden=8 train.steps=4 train.batch=4 train.horizon=6 "
    "evaluate.examples=8 evaluate.reach=4"
).split()


def plain(*overrides: str) -> dict:
    with initialize_config_dir(str(folder()), version_base="1.3"):
        return as_plain(compose("config", overrides=list(overrides)), overrides)


def study(*overrides: str) -> Study:
    return door(plain(*overrides))[0]


def tiny(*overrides: str) -> Study:
    return study(*TINY, *overrides)

"""Points composed from shared files are what Hydra composes, and what it refuses it refuses in the same words."""

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode

from windtunnel.compose import as_plain
from windtunnel.presets import folder
from windtunnel.sweep.composing import compose_faster

JOBS = [
    "seed=1 tunnel.noise=0.1",
    "seed=2 tunnel.noise=0.2 position=alibi",
    "seed=2 position=gaussian position.scale=3 tunnel.noise=1e-3",
    "+sweep=extrapolation tunnel.bits=5 question='two,words'",
    "+sweep=extrapolation position=bam tunnel.bits=6",
    "tunnel=hmm ~position train.em={routing:2.0} evaluate={reach:2,seed:1}",
    "tunnel=hmm ~position train.em={value:3.0} plugins=[]",
    "+train.terms.mine={name:entropy,weight:1} seed=3",
    "+bayesian_attention=default bayesian_attention.prior_params.beta=1 bayesian_attention.prior_params.scale=0.2",
    "tunnel.noise=0.3 ++tunnel.noise=0.4 seed=3",
    "tunnel.noise=??? seed=3",
]
BAD = ["seed=1 tunnel.nosie=0.1", "tunel=recall", "seed=1 tunnel.noise@x=3", "seed=1,2", "tunnel=recal seed=1"]


@pytest.fixture
def loaders():
    """(Hydra's way, ours, the configuration of the multirun)"""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", overrides=[], run_mode=RunMode.MULTIRUN)
        hydras = loader.load_sweep_config
        compose_faster(loader)
        yield hydras, loader.load_sweep_config, master


def test_every_point_is_as_hydra_composes_it(loaders):
    hydras, ours, master = loaders
    for job in JOBS:
        overrides = job.split(" ")
        point = ours(master, overrides)
        plain, hydras_own = (
            as_plain(one, overrides, one.hydra.runtime.choices) for one in (point, hydras(master, overrides))
        )
        assert plain == hydras_own, job
        assert ours(master, overrides) is point, "composed once"


@pytest.mark.parametrize("job", BAD)
def test_what_is_refused_is_refused_in_hydras_words(loaders, job):
    hydras, ours, master = loaders
    ours(master, ["seed=1"])
    with pytest.raises(HydraException) as refusal:
        hydras(master, job.split(" "))
    with pytest.raises(HydraException) as own:
        ours(master, job.split(" "))
    assert str(own.value) == str(refusal.value)

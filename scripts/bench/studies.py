"""Studies as the command line composes them."""

from hydra import compose, initialize_config_dir

from windtunnel.conf import folder
from windtunnel.config import Study, door
from windtunnel.sweep.launcher import as_plain


def composed(overrides: list[str]) -> Study:
    with initialize_config_dir(str(folder()), version_base="1.3"):
        return door(as_plain(compose("config", overrides=overrides), overrides))[0]

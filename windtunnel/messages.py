"""Hydra's errors, each in one line that names the key, the value and what would be valid."""

import itertools
import re
from pathlib import Path

from windtunnel.errors import no_such
from windtunnel.presets import ADDED, folder

_GROUP = re.compile(
    r"Could not find '(?P<group>[\w/]+)/(?P<name>[^']+)'.*?Available options in '[^']+':\n(?P<valid>.*?)(\n\S|$)", re.S
)
_KEY = re.compile(r"is not in struct.*?full_key: (?P<key>[\w.]+)", re.S)


def one_line(error: Exception, arguments: list[str]) -> str:
    """The message of an error in one line; `arguments` are those of the command line."""
    text = "\n".join([str(error), str(error.__cause__ or "")])
    if group := _GROUP.search(text):
        return f"{group['group']}={group['name']}: {no_such(group['name'], group['valid'].split())}"
    if (key := _KEY.search(text)) and key["key"] in ADDED:
        return f"{key['key']}: is added to the configuration: +{key['key']}=NAME; `windtunnel list` shows the names"
    if key:
        return f"{key['key']}: {no_such(key['key'].split('.')[-1], _siblings(key['key'], arguments))}"
    if "group override must be a string" in text:
        return "a group takes a name, not null; `windtunnel list` shows them"
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _siblings(key: str, arguments: list[str]) -> list[str]:
    """The keys that exist beside `key`, which does not, in the configuration of the chosen groups alone."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    folders = [after for flag, after in itertools.pairwise(arguments) if flag in ("--config-dir", "-cd")]
    folders += [argument.partition("=")[2] for argument in arguments if argument.startswith("--config-dir=")]
    search_path = (
        [f"hydra.searchpath=[{','.join(f'file://{Path(added).resolve()}' for added in folders)}]"] if folders else []
    )
    groups = r"(tunnel|prior|model|position|train|\+term|hydra/launcher)=\w+"
    chosen = [argument for argument in arguments if re.fullmatch(groups, argument)]
    with initialize_config_dir(str(folder()), version_base="1.3"):
        config = compose("config", return_hydra_config=key.startswith("hydra."), overrides=[*chosen, *search_path])
    parent = key.rpartition(".")[0]
    node = OmegaConf.select(config, parent) if parent else config
    return sorted(node) if node is not None else []

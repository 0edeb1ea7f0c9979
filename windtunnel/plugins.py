"""Tunnels from outside the package: a Python file, an importable module, or what installed distributions offer.

A plugin is a module with `@spec` subclasses of `Tunnel`, and with their judges in a dict `BRUTES` like that of
`verify/brute/__init__.py`. Once loaded, its tunnels are members of the union as if they had been written here.
"""

import dataclasses
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from windtunnel.errors import BadInput
from windtunnel.tunnels import TUNNELS, Tunnel
from windtunnel.verify.brute import BRUTES

GROUP = "windtunnel.tunnels"  # of entry points, each naming a module
loaded: dict[str, ModuleType] = {}  # what was asked for by name or file


def load(names: Iterable[str] = ()) -> None:
    """Make the tunnels of these plugins known, and those of what is installed. `BadInput` where one is not fit."""
    installed()
    for name in names:
        source = str(Path(name).resolve()) if name.endswith(".py") else name
        if source not in loaded:
            module = _import(name, source)
            register(name, module)
            loaded[source] = module


@cache
def installed() -> None:
    for point in entry_points(group=GROUP):
        register(point.value, _import(point.value, point.value))


def source(tunnel: Tunnel) -> list[str]:
    """The plugin that a tunnel comes from, by name or absolute file, to be loaded again; none of what is installed."""
    return [name for name, module in loaded.items() if module.__name__ == type(tunnel).__module__]


def tunnels(module: ModuleType) -> list[Any]:
    """The tunnels that a module defines."""
    made = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Tunnel)]
    return [one for one in made if one.__module__ == module.__name__ and dataclasses.is_dataclass(one)]


def register(name: str, module: ModuleType) -> None:
    found = tunnels(module)
    if not found:
        raise BadInput(f"plugins={name}: defines no tunnel, that is no @spec subclass of Tunnel")
    known = {member.name for member in TUNNELS.members}
    for tunnel in found:
        if getattr(tunnel, "name", None) in (None, *known):
            said = f"a tunnel named {tunnel.name} exists already" if hasattr(tunnel, "name") else "it has no name"
            raise BadInput(f"plugins={name}: {tunnel.__name__}: {said}; give it one of its own")
    TUNNELS.members.extend(found)
    BRUTES.update(getattr(module, "BRUTES", {}))


def _import(name: str, source: str) -> ModuleType:
    try:
        if not source.endswith(".py"):
            return importlib.import_module(source)
        if not Path(source).is_file():
            raise BadInput(f"plugins={name}: no such file (looked for {source})")
        unique = f"windtunnel_plugin_{Path(source).stem}_{hashlib.sha256(source.encode()).hexdigest()[:8]}"
        made = importlib.util.spec_from_file_location(unique, source)
        assert made is not None and made.loader is not None  # of a file that exists
        module = sys.modules[unique] = importlib.util.module_from_spec(made)
        made.loader.exec_module(module)
        return module
    except BadInput:
        raise
    except Exception as error:  # whatever a foreign file may raise
        line = str(error).partition("\n")[0]
        raise BadInput(f"plugins={name}: cannot be imported ({type(error).__name__}: {line})") from error

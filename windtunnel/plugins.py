"""Plug-ins: what comes from outside the package. A Python file, an importable module, or what installed distributions
offer.

A plug-in is a module. Every `@spec` subclass of `Tunnel`, `Position`, `Model` or `Term` in it becomes a member of its
family, as if it had been written here; a module with a line QUESTION and the four functions of an instrument is one, by
the name of its file. Judges of its tunnels are in a dict `BRUTES` like that of `verify/brute/__init__.py`.
"""

import dataclasses
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from windtunnel import instruments, spec
from windtunnel.errors import BadInput
from windtunnel.losses import TERMS
from windtunnel.models import MODELS
from windtunnel.models.position import POSITIONS, SINGLE
from windtunnel.spec import Family
from windtunnel.tunnels import TUNNELS

GROUPS = ("windtunnel.plugins", "windtunnel.tunnels")  # of entry points, each naming a module
FAMILIES = {TUNNELS: TUNNELS, POSITIONS: SINGLE, MODELS: MODELS, TERMS: TERMS}  # and where members are added
PARTS = ("refusal", "measure", "lines", "headline")  # of an instrument
loaded: dict[str, ModuleType] = {}  # what was asked for by name or file
judges: dict[str, Any] = {}  # of the tunnels of plug-ins, by name


def load(names: Iterable[str] = ()) -> list[ModuleType]:
    """Make these plug-ins known, and what is installed. `BadInput` where one is not fit."""
    installed()
    return [_load(name) for name in names]


def permitted(where: Path, wanted: Iterable[str], named: Iterable[str], trust: bool | None = None) -> list[str]:
    """The plug-ins to load for a record that wants some. A plug-in is code, and a record may come from anybody: what it
    wants is loaded only if the user names it too, and then from where the user says; or, with `trust` (None: there is
    no such flag), from where the record says. What is loaded already, or installed, was the user's choice before.
    """
    named = list(named)
    files = {Path(name).name for name in named}
    missing = [name for name in wanted if Path(name).name not in files and _source(name) not in loaded]
    if missing and not trust:
        more = "" if trust is None else ", or trust every plug-in that these records name: --trust"
        raise BadInput(f"{where}: needs the code of a plug-in; to run it, name it too: plugins={missing[0]}{more}")
    return [*named, *missing]


def _source(name: str) -> str:
    return str(Path(name).resolve()) if name.endswith(".py") else name


def _load(name: str) -> ModuleType:
    source = _source(name)
    if source not in loaded:
        module = _import(name, source)
        register(name, module)
        loaded[source] = module
    return loaded[source]


@cache
def installed() -> None:
    for group in GROUPS:
        for point in entry_points(group=group):
            register(point.value, _import(point.value, point.value))


def instrument(name: str) -> str:
    """The name of the instrument in a plug-in's file."""
    module = load([name])[0]
    known = [name for name, foreign in instruments.FOREIGN.items() if foreign is module]
    if not known:
        raise BadInput(f"{name}: is no instrument; one has a line QUESTION and the functions {', '.join(PARTS)}")
    return known[0]


def sources(study: Any) -> list[str]:
    """The plug-ins that a study and the specs in it come from, by name or absolute file, to be loaded again; none of
    what is installed.
    """
    modules = {type(part).__module__ for part in _parts(study)}
    return [name for name, module in loaded.items() if module.__name__ in modules]


def _parts(whole: Any) -> Iterator[Any]:
    """A spec and all specs in it."""
    if dataclasses.is_dataclass(whole):
        yield whole
        inner = [getattr(whole, field.name) for field in dataclasses.fields(whole)]
    else:
        inner = list(whole.values()) if isinstance(whole, dict) else whole if isinstance(whole, (tuple, list)) else []
    for part in inner:
        yield from _parts(part)


def members(module: ModuleType) -> Iterator[tuple[Family, type]]:
    """The specs that a module defines, each with its family."""
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == module.__name__ and dataclasses.is_dataclass(value):
            yield from ((family, value) for family in FAMILIES if issubclass(value, family.base))


def register(name: str, module: ModuleType) -> None:
    """Add what a module defines to the families."""
    specs = list(members(module))
    is_instrument = hasattr(module, "QUESTION")
    if not specs and not is_instrument:
        kinds = ", ".join(family.base.__name__ for family in FAMILIES)
        raise BadInput(
            f"plugins={name}: defines no @spec subclass of {kinds}, and no instrument (a QUESTION and its functions)"
        )
    for family, member in specs:
        known = {other.name for other in family.members}
        kind = family.base.__name__.lower()
        if not isinstance(getattr(member, "name", None), str):
            raise BadInput(f"plugins={name}: {member.__name__}: it has no name; give it one of its own")
        if member.name in known:
            raise BadInput(
                f"plugins={name}: {member.__name__}: a {kind} named {member.name} exists already; give it one of "
                "its own"
            )
    for family, member in specs:
        FAMILIES[family].own.append(member)
    if is_instrument:
        lacking = [part for part in PARTS if not callable(getattr(module, part, None))]
        stem = Path(module.__file__ or name).stem
        if lacking:
            raise BadInput(f"plugins={name}: an instrument, but it lacks {', '.join(lacking)}")
        if stem in instruments.INSTRUMENTS:
            raise BadInput(f"plugins={name}: an instrument named {stem} exists already; rename the file")
        instruments.FOREIGN[stem] = module
        instruments.INSTRUMENTS[stem] = module.QUESTION
    judges.update(getattr(module, "BRUTES", {}))
    if module.__file__:
        spec.sources[module.__name__] = spec.digest(Path(module.__file__).read_text(encoding="utf-8"))


def _import(name: str, source: str) -> ModuleType:
    try:
        if not source.endswith(".py"):
            return importlib.import_module(source)
        if not Path(source).is_file():
            raise BadInput(f"plugins={name}: no such file (looked for {source})")
        unique = f"windtunnel_plugin_{Path(source).stem}_{hashlib.sha256(source.encode()).hexdigest()[:8]}"
        described = importlib.util.spec_from_file_location(unique, source)
        assert described is not None and described.loader is not None  # of a file that exists
        module = sys.modules[unique] = importlib.util.module_from_spec(described)
        described.loader.exec_module(module)
        return module
    except BadInput:
        raise
    except Exception as error:  # whatever a foreign file may raise
        line = str(error).partition("\n")[0]
        raise BadInput(f"plugins={name}: cannot be imported ({type(error).__name__}: {line})") from error

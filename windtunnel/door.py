"""The door through which every configuration comes in: validated once, trusted ever after."""

import dataclasses
import math
import typing
from collections.abc import Iterable
from typing import Annotated, Any

import pydantic

from windtunnel import trackers
from windtunnel.agree import agree, agree_on_problem
from windtunnel.config import SETTINGS, Settings, Study
from windtunnel.errors import BadInput, no_such
from windtunnel.plugins import load
from windtunnel.problem import Problem
from windtunnel.spec import adapter, members
from windtunnel.tunnels import AnyTunnel


def configuration(plain: dict[str, Any]) -> tuple[Study, Settings]:
    """For a whole composed configuration."""
    try:
        settings = Settings(**{key: value for key, value in plain.items() if key in SETTINGS})
    except pydantic.ValidationError as error:
        raise BadInput(_one_line(error)) from None
    if not settings.runs.strip():
        raise BadInput("runs=: should be a folder, as in runs=runs")
    trackers.check(settings.tracker)
    return study({key: value for key, value in plain.items() if key not in SETTINGS}, settings.plugins), settings


def study(plain: dict[str, Any], plugins: Iterable[str] = ()) -> Study:
    """A plain dict to a validated `Study`, or `BadInput` with one line. Plugins are loaded before."""
    load(plugins)
    if isinstance(plain.get("tunnel"), dict):
        plain = {**plain, "tunnel": sized(plain["tunnel"])}
    checked = validated(Study, plain)
    agree(checked)
    return checked


def problem(plain: dict[str, Any], plugins: Iterable[str] = ()) -> Problem:
    """The same for a problem alone."""
    load(plugins)
    checked = validated(Problem, plain)
    agree_on_problem(checked)
    return checked


def validated(cls: type, plain: dict[str, Any]) -> Any:
    try:
        checked = adapter(cls).validate_python(plain)
    except pydantic.ValidationError as error:
        raise BadInput(_one_line(error, cls)) from None
    if truth := _truth_for_number(plain, checked):
        raise BadInput(f"{truth}: should be a number")
    return checked


def _truth_for_number(plain: Any, checked: Any, key: str = "") -> str | None:
    """The first key that was given true or false, and is a number: pydantic takes them for 1 and 0."""
    if isinstance(plain, bool) and not isinstance(checked, bool):
        return f"{key}={str(plain).lower()}"
    parts: list[tuple[Any, Any, str]] = []
    if isinstance(plain, dict):
        of = checked if isinstance(checked, dict) else {name: getattr(checked, name, None) for name in plain}
        parts = [(value, of.get(name), ".".join(filter(None, (key, str(name))))) for name, value in plain.items()]
    elif isinstance(plain, (list, tuple)) and isinstance(checked, (list, tuple)):
        parts = [(*pair, f"{key}.{index}") for index, pair in enumerate(zip(plain, checked, strict=False))]
    return next((wrong for part in parts if (wrong := _truth_for_number(*part))), None)


def sized(tunnel: dict[str, Any]) -> dict[str, Any]:
    """Resolve `hypotheses`, the one way to set the size of any finite hypothesis space, into the field it stands for.

    A size that is null is the tunnel's own default.
    """
    spec = next((spec for spec in members(AnyTunnel) if spec.name == tunnel.get("name")), None)
    if spec is None or spec.size is None:
        return tunnel
    given = {key: value for key, value in tunnel.items() if key not in ("hypotheses", spec.size) or value is not None}
    if "hypotheses" not in given:
        return given
    wanted = given.pop("hypotheses")
    if spec.size in given:
        raise BadInput(
            f"tunnel.hypotheses={wanted}: tunnel.{spec.size}={given[spec.size]} sets it already; give one of the two"
        )
    field = pydantic.TypeAdapter(typing.get_type_hints(spec, include_extras=True)[spec.size]).json_schema()
    sizes = {spec.count(size): size for size in range(field["minimum"], field["maximum"] + 1)}
    if isinstance(wanted, bool) or not isinstance(wanted, (int, float)) or not math.isfinite(wanted):
        raise BadInput(f"tunnel.hypotheses={wanted}: should be a whole number; valid: {_listed(list(sizes))}")
    if wanted not in sizes:
        number = wanted
        nearest = [
            max((n for n in sizes if n <= number), default=None),
            min((n for n in sizes if n > number), default=None),
        ]
        known = " and ".join(f"{count}" if count < 10**18 else f"{count:.3g}" for count in nearest if count is not None)
        raise BadInput(f"tunnel.hypotheses={wanted}: {spec.name} has no such size; the nearest: {known}")
    return {**given, spec.size: sizes[wanted]}


def _listed(numbers: list[int]) -> str:
    """`2, 6, 24, …, 5.11e+25`"""
    few = [*map(str, numbers[:3]), "…", f"{numbers[-1]:.3g}"]
    return ", ".join(few if len(numbers) > 4 else map(str, numbers))


def _is_mapping(hint: Any) -> bool:
    """Whether a field of this type holds specs by names that the user gives."""
    return typing.get_origin(hint.__origin__ if typing.get_origin(hint) is Annotated else hint) is dict


def _one_line(error: pydantic.ValidationError, root: Any = None) -> str:
    """The first thing that is wrong, in one line: the key, the value, what would be valid."""
    first = error.errors(include_url=False)[0]
    path: list[str] = []
    specs: list[Any] = [root or Study]
    owner: Any = specs[0]
    in_mapping = False
    for part in first["loc"]:
        chosen = [spec for spec in specs if getattr(spec, "name", None) == part and not in_mapping]
        if chosen:  # pydantic puts the name of a union's member into the path; the user did not write it
            specs, owner = chosen, chosen[0]
            continue
        path.append(str(part))
        if specs and not isinstance(part, int) and not in_mapping:  # neither an index nor a name leads to another spec
            hint = typing.get_type_hints(specs[0], include_extras=True).get(part)
            owner, specs, in_mapping = specs[0], members(hint), _is_mapping(hint)
        else:
            in_mapping = False
    key, kind, value = ".".join(path), first["type"], first["input"]
    if kind == "unexpected_keyword_argument":
        return f"{key}: {no_such(path[-1], [field.name for field in dataclasses.fields(owner)])}"
    if kind == "union_tag_invalid":
        return f"{key}={value['name']}: {no_such(value['name'], [spec.name for spec in specs])}"
    if kind == "union_tag_not_found":
        return f"{key}: has no name; valid: {', '.join(spec.name for spec in specs)}"
    if kind.startswith("missing"):
        return f"{key}: missing"
    shown = value.get("name", value) if isinstance(value, dict) else "null" if value is None else value
    return f"{key}={shown}: {first['msg'].replace('Input should', 'should')}"

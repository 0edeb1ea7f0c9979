"""A study is a pytree: its knobs are leaves, its sizes are structure.

`@spec` turns a class into a frozen dataclass that JAX sees as a pytree. A field marked `Knob` is a leaf (a number that
a compiled program takes as an argument), a field holding other specs is a child, every other field is static
structure. So two studies share one compiled program if and only if `jax.tree.structure` calls them equal.
"""

import dataclasses
import functools
import hashlib
import json
import typing
from typing import Annotated, Any, ClassVar, Self, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from pydantic import ConfigDict, Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, PydanticKnownError, core_schema


class Knob:
    """Marks a dataclass field as a pytree leaf."""


Real = Annotated[float, Field(allow_inf_nan=False), Knob]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), Knob]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), Knob]
Noise = Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False), Knob]
Seed = Annotated[int, Field(ge=0, lt=2**31), Knob]
Size = Annotated[int, Field(ge=1, lt=2**31)]  # static: it shapes the program


class Family:
    """An open union of specs of one base class, distinguished by their names: a field of type `Annotated[Base, family]`
    takes any of them. Plugins add to `own`; the members are read when a configuration is validated.
    """

    every: ClassVar[list["Family"]] = []

    def __init__(self, base: type, *members: Any):
        self.base, self.own = base, list(members)
        self.smaller: Family | None = None
        Family.every.append(self)

    def and_also(self, *members: Any) -> Self:
        """A family of these members and all present and future members of this family."""
        larger = type(self)(self.base, *members)
        larger.smaller = self
        return larger

    @property
    def members(self) -> list[Any]:
        return [*(self.smaller.members if self.smaller else []), *self.own]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if not self.members:  # pydantic has no empty unions
            return core_schema.no_info_plain_validator_function(self._refuse)
        choices = {member.name: handler.generate_schema(member) for member in self.members}
        return core_schema.tagged_union_schema(choices, discriminator="name")

    def _refuse(self, value: Any) -> Any:
        name = value.get("name") if isinstance(value, dict) else value
        raise PydanticKnownError("union_tag_invalid", {"discriminator": "name", "tag": str(name), "expected_tags": ""})


@dataclass_transform(frozen_default=True, kw_only_default=True)
def spec(cls: type) -> Any:
    """Make `cls` a frozen, keyword-only dataclass, registered as a JAX pytree; `door.configuration` validates it."""
    cls.__pydantic_config__ = ConfigDict(extra="forbid", validate_default=True)  # type: ignore[attr-defined]
    dataclass: Any = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    hints = typing.get_type_hints(cls, include_extras=True)
    names = [field.name for field in dataclasses.fields(dataclass)]
    data = [name for name in names if _is_data(hints[name])]
    return jax.tree_util.register_dataclass(dataclass, data, [name for name in names if name not in data])


def _is_data(hint: Any) -> bool:
    """Whether a field of this type holds knobs: it is a knob itself, or it is built from specs."""
    if typing.get_origin(hint) is Annotated:
        family = any(isinstance(mark, Family) for mark in hint.__metadata__)
        return family or Knob in hint.__metadata__ or _is_data(hint.__origin__)
    return dataclasses.is_dataclass(hint) or any(_is_data(part) for part in typing.get_args(hint))


def stack(trees: list[Any]) -> Any:
    """Stack specs of one structure into a pack: every knob becomes an array over S.

    Numbers become arrays only here, because a program would be compiled once for Python numbers and again for arrays.
    Whole numbers become int32, others the current float type (float32 unless x64 is enabled).
    """

    def leaf(*values: Any) -> Array:
        whole = all(isinstance(value, (int, np.integer)) for value in values)
        return jnp.asarray(values, jnp.int32 if whole else jnp.result_type(float))

    return jax.tree.map(leaf, *trees)


def arrays(tree: Any) -> Any:
    """One spec with arrays for knobs, as compiled programs take them."""
    return jax.tree.map(lambda leaf: leaf[0], stack([tree]))


def adapter(cls: type) -> TypeAdapter:
    """The pydantic adapter of a spec. Cached: building one costs far more than using it. Rebuilt when plugins are
    added.
    """
    return _adapter(cls, sum(len(family.own) for family in Family.every))


@functools.cache
def _adapter(cls: type, members: int) -> TypeAdapter:
    return TypeAdapter(cls)


def plain(spec: Any) -> Any:
    """The inverse of validation: a spec as nested dicts, lists and numbers."""
    return json.loads(adapter(type(spec)).dump_json(spec))


def identity(spec: Any) -> Any:
    """What a spec is, as nested dicts, lists and numbers: without fields at their default, so that a field that is
    added later renames nothing, and without those that it ignores (`ignored`). The source of a plug-in is part of it.
    """
    if dataclasses.is_dataclass(spec):
        ignored = getattr(spec, "ignored", ())
        source = {"source": sources[type(spec).__module__]} if type(spec).__module__ in sources else {}
        values = {field: getattr(spec, field.name) for field in dataclasses.fields(spec) if field.name not in ignored}
        kept = {
            field.name: value for field, value in values.items() if field.name == "name" or value != _default(field)
        }
        return {**{name: identity(value) for name, value in kept.items()}, **source}
    if isinstance(spec, dict):
        return {key: identity(value) for key, value in spec.items()}
    if isinstance(spec, (list, tuple)):
        return [identity(value) for value in spec]
    return spec.item() if isinstance(spec, np.generic) else spec


sources: dict[str, str] = {}  # of modules that are plug-ins: a digest of their text


def _default(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def digest(plain: Any) -> str:
    """A hash of nested dicts, lists and numbers, as ten hexadecimal digits."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:10]


def names(union: Any) -> list[str]:
    """The names of the specs that a union is made of."""
    return [member.name for member in members(union)]


def members(hint: Any) -> list[Any]:
    """The specs that a type is built from."""
    if dataclasses.is_dataclass(hint):
        return [hint]
    if isinstance(hint, Family):
        return hint.members
    parts = typing.get_args(hint)
    families = [part for part in parts if isinstance(part, Family)]  # beside the base class, which is none of them
    return [spec for part in families or parts for spec in members(part)]

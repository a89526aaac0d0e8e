"""What a settings struct declares, and how one value of it is read from text."""

from __future__ import annotations

import math
import re
import typing
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, inspect

from common.secret import Secret

__all__ = ["Bytes", "Field", "Port", "Seconds", "Settings", "fields_of", "read_value", "show_value"]

Bytes = Annotated[int, Meta(ge=0, le=2**53, extra={"unit": "bytes"})]
"""A number of bytes; a text may carry KiB, MiB or GiB."""

Seconds = Annotated[float, Meta(ge=0, le=10 * 365 * 86400, extra={"unit": "seconds"})]
"""A time in seconds; a text may carry ms, s, m, h or d."""

Port = Annotated[int, Meta(ge=0, le=65535)]
"""A TCP port; 0 lets the system choose a free one."""

_FACTORS: dict[str, dict[str, float]] = {
    "bytes": {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40},
    "seconds": {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400},
}
_QUANTITY = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([A-Za-z]{0,3})", re.ASCII)

_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)

_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a process's settings.

    Each field is `Annotated[type, Meta(description=...)]`: the description feeds the reference and `config check`. A
    check across fields goes into `__post_init__`, which raises `ValueError` with a text that holds no value.
    """

    section: ClassVar[str] = ""
    """The table of the TOML file that is this process's own."""

    families: ClassVar[tuple[str, ...]] = ()
    """How the names of those fields begin whose variables have no `HOMEPORT_` before them: names that other systems
    have made known are kept (`gitstore_git_url` is `GITSTORE_GIT_URL`).
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One setting, as it is documented."""

    name: str
    """The key in the TOML file."""
    variable: str
    """The environment variable; of a table of tables, where each value has one, their pattern."""
    type: str
    """What may be given, in words."""
    default: str | None
    """The default as text; None when the setting must be given."""
    description: str
    secret: bool
    annotation: Any
    """The type, for `read_value`."""
    shape: inspect.Type
    """The type as msgspec sees it, without its metadata."""
    unit: str | None
    entries: tuple[Field, ...] = ()
    """For a table of tables: what each of them holds."""


def fields_of(settings: type[msgspec.Struct]) -> tuple[Field, ...]:
    """The settings of a process, or the fields of an entry of a table of tables, in the order of their declaration."""
    info = inspect.type_info(settings)
    assert isinstance(info, inspect.StructType)
    annotations = _annotations(settings)
    families = settings.families if issubclass(settings, Settings) else ()
    return tuple(
        _field(field, annotations[field.name], "" if families and field.name.startswith(families) else "HOMEPORT_")
        for field in info.fields
    )


def _annotations(settings: type[msgspec.Struct]) -> dict[str, Any]:
    return typing.get_type_hints(settings, include_extras=True)  # resolves annotations that are text


def _entries(shape: inspect.Type) -> tuple[Field, ...]:
    """The fields of an entry, of a table of tables; none of anything else."""
    match shape:
        case inspect.DictType(value_type=inspect.StructType(cls=entry)):
            return fields_of(entry)
        case _:
            return ()


def _field(field: inspect.Field, annotation: Any, prefix: str) -> Field:
    shape, description, unit = _unwrap(field.type)
    if not description:
        raise TypeError(f"setting {field.name!r} has no description")
    secret = any(isinstance(part, inspect.CustomType) and part.cls is Secret for part in _parts(shape))
    entries = _entries(shape)
    default: str | None
    if field.default is not msgspec.NODEFAULT:
        default = show_value(field.default, unit)
    elif field.default_factory is not msgspec.NODEFAULT:
        default = show_value(field.default_factory(), unit)
    else:
        default = None
    return Field(
        name=field.name,
        variable=prefix + field.name.upper() + ("__NAME__KEY" if entries else ""),
        type=_in_words(shape, unit),
        default=default,
        description=description,
        secret=secret,
        annotation=annotation,
        shape=shape,
        unit=unit,
        entries=entries,
    )


def _unwrap(shape: inspect.Type) -> tuple[inspect.Type, str, str | None]:
    """The type without its metadata, its description and its unit, wherever in `T | None` they were given."""
    description, unit = "", None
    while isinstance(shape, inspect.Metadata):
        description = description or (shape.extra_json_schema or {}).get("description", "")
        unit = unit or (shape.extra or {}).get("unit")
        shape = shape.type
    if isinstance(shape, inspect.UnionType):
        for part in shape.types:
            if isinstance(part, inspect.Metadata):
                unit = unit or (part.extra or {}).get("unit")
    return shape, description, unit


def _parts(shape: inspect.Type) -> list[inspect.Type]:
    """The alternatives of a type, without metadata and None."""
    alternatives = shape.types if isinstance(shape, inspect.UnionType) else (shape,)
    bare = [part.type if isinstance(part, inspect.Metadata) else part for part in alternatives]
    return [part for part in bare if not isinstance(part, inspect.NoneType)]


def _in_words(shape: inspect.Type, unit: str | None) -> str:
    return " or ".join(_part_in_words(part, unit) for part in _parts(shape))


def _part_in_words(part: inspect.Type, unit: str | None) -> str:
    match part:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() | inspect.FloatType():
            noun = {"bytes": "a size", "seconds": "a time"}.get(unit or "")
            if noun is None:
                noun = "an integer" if isinstance(part, inspect.IntType) else "a number"
            if part.ge is not None and part.le is not None and unit is None:
                return f"{noun} from {part.ge} to {part.le}"
            if part.ge:
                return f"{noun} of at least {show_value(part.ge, unit)}"
            return noun
        case inspect.LiteralType():
            return "one of " + ", ".join(map(str, part.values))
        case inspect.EnumType():
            return "one of " + ", ".join(str(member.value) for member in part.cls)
        case inspect.CustomType() if part.cls is Path:
            return "a path"
        case inspect.CustomType() if part.cls is Secret:
            return "a secret"
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
            return "a list"
        case inspect.DictType(value_type=inspect.StructType()):
            return "a table of tables"
        case inspect.DictType():
            return "a table"
        case _:
            return "a text"


def show_value(value: object, unit: str | None = None) -> str:
    """A value as a user would write it; a secret as `***`."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float() if unit == "bytes":
            return _show_bytes(int(value))
        case int() | float() if unit == "seconds":
            return _show_seconds(value)
        case Enum():
            return str(value.value)
        case dict() if any(isinstance(item, msgspec.Struct) for item in value.values()):
            return ",".join(value)
        case dict():
            return ",".join(f"{key}={show_value(item)}" for key, item in value.items())
        case list() | tuple() | set() | frozenset():
            return ",".join(show_value(item) for item in value)
        case _:
            return str(value)


def _show_bytes(number: int) -> str:
    for suffix, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number and number % factor == 0:
            return f"{number // factor}{suffix}"
    return str(number)


def _show_seconds(number: float) -> str:
    for suffix, factor in (("d", 86400), ("h", 3600), ("m", 60)):
        if number and number % factor == 0 and number > factor:
            return f"{number // factor:.0f}{suffix}"
    return f"{number:g}s"


def read_value(field: Field, raw: object) -> Any:
    """`raw`, as text or as TOML or Python gave it, as a value of the field.

    Raises:
        ValueError: it is none; the text says what is expected, and does not quote `raw`.
    """
    try:
        value = msgspec.convert(_prepared(field, raw), field.annotation, strict=False, dec_hook=_convert_custom)
    except (msgspec.ValidationError, ValueError, OverflowError):
        # Without the cause, which quotes the value.
        raise ValueError(f"expected {field.type}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"expected {field.type}")
    return value


def _prepared(field: Field, raw: object) -> object:
    """Text in the forms that only settings have, as what msgspec converts."""
    if not isinstance(raw, str):
        return raw
    kinds = _parts(field.shape)
    if field.unit is not None:
        return _quantity(raw, field.unit)
    if all(isinstance(kind, inspect.IntType) for kind in kinds) and _INTEGER.fullmatch(raw) is None:
        raise ValueError("not an integer")  # msgspec would take 1e3 and 1.0 as well
    if any(isinstance(kind, inspect.BoolType) for kind in kinds):
        return _BOOLEANS.get(raw.strip().lower(), raw)
    if any(isinstance(kind, inspect.DictType) for kind in kinds):
        return _table(raw)
    if any(isinstance(kind, inspect.ListType | inspect.VarTupleType | inspect.FrozenSetType) for kind in kinds):
        return [item.strip() for item in raw.split(",") if item.strip()]
    return raw


def _quantity(text: str, unit: str) -> float | int:
    match = _QUANTITY.fullmatch(text.strip())
    factor = _FACTORS[unit].get(match[2].lower()) if match is not None else None
    if match is None or factor is None:
        raise ValueError(f"not a number of {unit}")
    amount = float(match[1]) * factor
    if unit != "bytes":
        return amount
    if not amount.is_integer():
        raise ValueError("not a whole number of bytes")
    return int(amount)


def _table(text: str) -> dict[str, str]:
    table: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = item.partition("=")
        if not equals or key in table:
            raise ValueError("not a table")
        table[key.strip()] = value.strip()
    return table


def _convert_custom(kind: type, value: object) -> Any:
    if kind is Path and isinstance(value, str | Path) and str(value):
        try:
            return Path(value).expanduser()
        except RuntimeError as exc:  # of a user that the system does not know, or without a home
            raise ValueError("names the home of a user whom this system does not know") from exc
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    if isinstance(value, kind):
        return value
    raise ValueError(f"not a {kind.__name__}")

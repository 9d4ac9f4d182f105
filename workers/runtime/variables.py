"""Typed process variables: Python values to the engine's `{"type", "value"}` and back.

The rule it keeps: every value is sent with an explicit type, so that the engine never guesses (it would turn a dict into a serialised Java
object that only Java can read, and a Decimal into a Double). A value that cannot be sent is refused here, before any call.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, TypeAlias
from uuid import UUID

from domain.texts import UnfitJsonError, json_from, require_fit

Variable: TypeAlias = (
    str | bool | int | float | Decimal | datetime | date | UUID | Enum | bytes | Mapping[str, Any] | Sequence[Any] | None
)
TypedValue: TypeAlias = dict[str, Any]
EncodedVariables: TypeAlias = dict[str, TypedValue]

MAX_STRING = 4000  # characters; the width of the engine's text column
_INTEGER = range(-(2**31), 2**31)
_LONG = range(-(2**63), 2**63)
_JSON_FORMAT = "application/json"


class VariableError(Exception):
    """A value cannot be exchanged with the engine."""


def encode(variables: Mapping[str, Variable]) -> EncodedVariables:
    """All variables in the engine's form. Raises VariableError with the name of the first one that cannot be sent."""
    return {name: _encoded(name, value) for name, value in variables.items()}


def decode(variables: Mapping[str, TypedValue]) -> dict[str, Any]:
    """Values as Python objects. Raises VariableError with the name of the first one that cannot be read."""
    return {name: _decoded(name, variable) for name, variable in variables.items()}


def _encoded(name: str, value: Variable) -> TypedValue:
    plain = value.value if isinstance(value, Enum) else value
    for types, encoder in _ENCODERS:
        if isinstance(plain, types):
            return encoder(name, plain)
    return {"type": "Json", "value": _json(name, plain)}


def _integer(name: str, value: int) -> TypedValue:
    if value in _INTEGER:
        return {"type": "Integer", "value": value}
    if value in _LONG:
        return {"type": "Long", "value": value}
    raise VariableError(f"variable {name!r} does not fit into 64 bits: send it as text")


def _double(name: str, value: float) -> TypedValue:
    if not math.isfinite(value):
        raise VariableError(f"variable {name!r} is {value}, which JSON cannot carry: send a number or None")
    return {"type": "Double", "value": value}


def _string(name: str, value: str) -> TypedValue:
    if len(value) > MAX_STRING:
        raise VariableError(
            f"variable {name!r} has {len(value)} characters, the engine stores {MAX_STRING}: shorten it, or send a list (stored as Json)"
        )
    return {"type": "String", "value": value}


def _date(name: str, value: datetime) -> TypedValue:
    if value.tzinfo is None:
        raise VariableError(f"variable {name!r} is a time without a time zone: make it aware, for example with UTC")
    moment = value.astimezone(UTC)
    return {"type": "Date", "value": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}+0000"}


def _json(name: str, value: Any) -> str:
    try:
        return json.dumps(value, default=_json_leaf, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise VariableError(f"variable {name!r} cannot be sent as Json: {error}") from error


def _json_leaf(value: Any) -> Any:
    for types, plain in _LEAVES:
        if isinstance(value, types):
            return plain(value)
    raise TypeError(f"{type(value).__name__} is not a variable type")


def _decoded(name: str, variable: TypedValue) -> Any:
    value = variable.get("value")
    if value is None:
        return None
    match variable.get("type"):
        case "Json":
            return _parsed(name, value)
        case "Date":
            return _read(name, value, datetime.fromisoformat)
        case "Bytes":
            return _read(name, value, base64.b64decode)
        case "Object":
            return _object(name, variable)
        case "File":
            raise VariableError(
                f"variable {name!r} is a file: read it through the engine's variable data address, not as an input of a task"
            )
        case _:
            return _fit(name, value)


def _read(name: str, value: Any, read: Callable[[Any], Any]) -> Any:
    try:
        return read(value)
    except (TypeError, ValueError) as error:
        raise VariableError(f"variable {name!r} cannot be read: {error}") from error


def _fit(name: str, value: Any) -> Any:
    try:
        require_fit(value)
    except UnfitJsonError as error:
        raise VariableError(f"variable {name!r} cannot be taken: {error}") from error
    return value


def _object(name: str, variable: TypedValue) -> Any:
    form = (variable.get("valueInfo") or {}).get("serializationDataFormat")
    if form == _JSON_FORMAT:
        return _parsed(name, variable["value"])
    raise VariableError(f"variable {name!r} is a serialised Java object ({form}): set it as Json in the process model")


def _parsed(name: str, text: Any) -> Any:
    if not isinstance(text, str):
        return _fit(name, text)
    try:
        return json_from(text)
    except UnfitJsonError as error:
        raise VariableError(f"variable {name!r} cannot be read as Json: {error}") from error


# In this order: a bool is an int, a datetime is a date.
_ENCODERS: Sequence[tuple[type | tuple[type, ...], Callable[[str, Any], TypedValue]]] = (
    (type(None), lambda _, __: {"type": "Null", "value": None}),
    (bool, lambda _, value: {"type": "Boolean", "value": value}),
    (int, _integer),
    (float, _double),
    (str, _string),
    # Plain digits: str() may return 1E+2, which readers outside Python may not understand.
    (Decimal, lambda _, value: {"type": "String", "value": f"{value:f}"}),
    (UUID, lambda _, value: {"type": "String", "value": str(value)}),
    (datetime, _date),
    (date, lambda _, value: {"type": "String", "value": value.isoformat()}),
    (bytes, lambda _, value: {"type": "Bytes", "value": base64.b64encode(value).decode()}),
)
# Types that the json module cannot write.
_LEAVES: Sequence[tuple[type | tuple[type, ...], Callable[[Any], Any]]] = (
    (Decimal, lambda value: f"{value:f}"),
    (UUID, str),
    (date, lambda value: value.isoformat()),
    (Enum, lambda value: value.value),
    (Mapping, dict),
    ((set, frozenset), sorted),
    (Sequence, list),
)

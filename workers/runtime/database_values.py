"""How values of the database become Python's. Reading never fails: one odd value must not hide the other rows of its statement.

The product writes no such value, but SQL by hand can, and so can a fault of another release. A time outside of Python's calendar becomes the
first or the last one that we take. A JSON document that cannot be read becomes `UnreadableJson`.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.types.json import set_json_loads

from domain.store.base import UnreadableJson
from domain.times import EARLIEST, LATEST

_LONG_NUMBER: Final = re.compile(r"\d{19}")
_BITS: Final = 63


class _TimeLoader(Loader):
    def load(self, data: Buffer) -> datetime:
        text = bytes(data).decode()
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            return EARLIEST if text.startswith("-") or text.endswith("BC") else LATEST


def json_of(document: str | bytes) -> Any:
    """A stored JSON document. A whole number beyond 64 bits, which no reader of our events can take, is read as a float."""
    text = document if isinstance(document, str) else document.decode()
    try:
        return json.loads(text, parse_int=_number) if _LONG_NUMBER.search(text) else json.loads(text)
    except (ValueError, RecursionError, OverflowError) as error:
        return UnreadableJson(f"{type(error).__name__}: {error}")


def _number(digits: str) -> int | float:
    number = int(digits)
    return number if number.bit_length() <= _BITS else float(number)


def load_leniently(connection: psycopg.Connection[Any]) -> None:
    """Read times and JSON of this connection as this module says. Times are expected in ISO 8601, which is the server's default."""
    connection.adapters.register_loader("timestamptz", _TimeLoader)
    set_json_loads(json_of, connection)

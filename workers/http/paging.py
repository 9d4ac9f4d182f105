"""Pages: a list is answered one page at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import BeforeValidator

LARGEST_PAGE = 200
_DIGITS = re.compile("[0-9]{1,9}")


def _digits(value: object) -> object:
    # What stands in an address is text. Pydantic would also take blanks, underscores, signs and "5.0".
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("a number is written in digits")
    return value


IN_DIGITS = BeforeValidator(_digits)
Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Items on this page"), IN_DIGITS]
After = Annotated[UUID | None, Query(description="`next` of the previous page")]


def page(items: Sequence[dict[str, Any]], limit: int, id_member: str) -> dict[str, Any]:
    """A page, and the value of `after` for the next one. Pass `limit + 1` items: the last of them shows that there is a next page."""
    shown = list(items[:limit])
    return {"items": shown, "next": shown[-1][id_member] if len(items) > limit else None}

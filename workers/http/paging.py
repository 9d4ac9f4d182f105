"""Pages: a list is answered one page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query

LARGEST_PAGE = 200

Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Items on this page")]
After = Annotated[UUID | None, Query(description="`next` of the previous page")]


def page(items: Sequence[dict[str, Any]], limit: int, id_member: str) -> dict[str, Any]:
    """A page, and the value of `after` for the next one. Pass `limit + 1` items: the last of them shows that there is a next page."""
    shown = list(items[:limit])
    return {"items": shown, "next": shown[-1][id_member] if len(items) > limit else None}

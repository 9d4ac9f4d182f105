"""What every answer to a client has in common. A contract test compares the real answers with these models."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from domain.store import Answer


class Shown(BaseModel):
    """An answer's JSON, in camelCase."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, validate_by_alias=True, validate_by_name=True)

    def answer(self, status: HTTPStatus, version: int | None = None) -> Answer:
        """The answer to a command that shows this; `version` becomes the ETag."""
        return Answer(status=status, body=self.model_dump(mode="json", by_alias=True), version=version)


class ListPage(Shown):
    """A page of a list that may be behind: `next` is the value for `after` that gives the next page, null on the last one."""

    next: str | None
    total: int = Field(description="How many items fit the filters, on all pages")
    as_of: datetime | None = Field(
        description="The time of the newest change that the list has taken in; null before the first one"
    )


class Problem(BaseModel):
    """A problem document (RFC 9457) with more members. The id of the aggregate is one of them, under its own name such as `quoteId`."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel)

    type: str
    title: str
    status: int
    code: str = Field(description="Stable; the same code as in logs and metrics")
    detail: str
    expected_version: int | None = None
    current_version: int | None = None
    safe_user_action: str = Field(description="What may safely be done next")

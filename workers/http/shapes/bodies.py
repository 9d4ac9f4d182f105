"""What every body that a client sends has in common: it takes only the members that it names, and each of them has a bound.

The rule: a body names each member of its command, so that mypy refuses a missing or renamed one. What the body does not carry (ids of the
path, the version of If-Match, the caller) its method takes as arguments.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel

from domain.texts import require_fit


class Body(BaseModel):
    """A request's JSON, in camelCase."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, validate_by_alias=True, validate_by_name=False)

    @model_validator(mode="before")
    @classmethod
    def _can_be_stored(cls, body: Any) -> Any:
        # First, because the name of a member that nobody knows is repeated in the refusal.
        require_fit(body)
        return body


class EmptyBody(Body):
    """An empty object: the path and If-Match name everything that the command needs."""

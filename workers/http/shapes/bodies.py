"""What every body that a client sends has in common: it takes only the members that it names, and each of them has a bound.

The rule: a body names each member of its command, so that mypy refuses a missing or renamed one. What the body does not carry (ids of the
path, the version of If-Match, the caller) its method takes as arguments.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Body(BaseModel):
    """A request's JSON, in camelCase."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, validate_by_alias=True, validate_by_name=False)


class EmptyBody(Body):
    """An empty object: the path and If-Match name everything that the command needs."""

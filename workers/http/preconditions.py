"""If-Match: the version that the sender of a command has seen, as one strong entity tag in quotes.

The rule: a version must be comparable exactly, so weak tags, lists and `*` are refused. The tag of a compressed answer (`"17-gzip"`) names the
same version as that of a plain one (`"17"`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header

from workers.http.headers import BLANKS, GZIPPED
from workers.http.problems import PreconditionInvalidError, PreconditionRequiredError

# Every number of at most eighteen digits fits the bigint column.
_STRONG_VERSION = re.compile(rf'"([0-9]{{1,18}})(?:{GZIPPED})?"')


@dataclass(frozen=True, slots=True)
class IfMatch:
    """The version that the header names; None without the header."""

    version: int | None

    def required(self) -> int:
        """The version. Raises PreconditionRequiredError if the request named none."""
        if self.version is None:
            raise PreconditionRequiredError
        return self.version


def read_if_match(
    if_match: Annotated[
        str | None,
        Header(alias="If-Match", description='The version that the sender has seen: the ETag of the last answer, such as `"17"`.'),
    ] = None,
) -> IfMatch:
    """Parse the header. Raises PreconditionInvalidError."""
    if if_match is None:
        return IfMatch(None)
    found = _STRONG_VERSION.fullmatch(if_match.strip(BLANKS))
    if found is None:
        raise PreconditionInvalidError
    return IfMatch(int(found[1]))


def plain_tag(if_match: str | None) -> str | None:
    """If-Match without the encoding, so that a repeat is the same request whichever of the two tags it carries."""
    return if_match.replace(f'{GZIPPED}"', '"') if if_match else if_match


def etag(version: int) -> str:
    """A version as an entity tag."""
    return f'"{version}"'


Precondition = Annotated[IfMatch, Depends(read_if_match)]

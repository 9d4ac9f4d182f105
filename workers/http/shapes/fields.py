"""The types of the members that clients send: what each one takes, how large it may be, and how OpenAPI describes it."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StringConstraints, WithJsonSchema

from domain.texts import LONGEST_IDENTIFIER, is_identifier, is_prose
from domain.times import in_utc

LARGEST_AMOUNT = 10**9
# What `domain.texts` demands, for the OpenAPI document: each range in escapes that ECMA 262, Python and Rust read alike. The tags of plane 14,
# which an identifier may not have either, cannot be written so.
_TURNING = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_UNSEEN = (
    r"\x00-\x1f\x7f-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
)
IDENTIFIER = rf"^[^\s{_UNSEEN}]([^{_UNSEEN}]*[^\s{_UNSEEN}])?$"
PROSE = rf"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029{_TURNING}]*$"

_DATE_FIRST = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")


# Pydantic alone would take "7" and true as a number, and a number, even in quotes, as seconds since 1970. These validators refuse them.
def _written_out(value: object) -> object:
    if not isinstance(value, str) or not _DATE_FIRST.match(value):
        raise ValueError("a moment is text by ISO 8601, with an offset")
    return value


def _counted(value: object) -> object:
    if isinstance(value, str | bool):
        raise ValueError("a count is a number")  # noqa: TRY004 - pydantic turns a ValueError into an error response
    return value


def _decimal(most: int, digits: int) -> tuple[BeforeValidator, WithJsonSchema]:
    """A number, or text by the pattern that the document shows; Decimal would also take blanks, underscores and the digits of other scripts."""
    written = rf"[0-9]{{1,{digits}}}(\.[0-9]{{1,2}})?"
    number = {"type": "number", "minimum": 0, "maximum": most, "multipleOf": 0.01}

    def numeric(value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("true and false are not numbers")  # noqa: TRY004 - as above
        if isinstance(value, str) and not re.fullmatch(written, value):
            raise ValueError(f"a number in text is written as {written}")
        return value

    return BeforeValidator(numeric), WithJsonSchema({"anyOf": [number, {"type": "string", "pattern": f"^{written}$"}]})


def _identifier(text: str) -> str:
    if not is_identifier(text):
        raise ValueError("an identifier has no blank at its ends, and no control, invisible or bidirectional character")
    return text


def _prose(text: str) -> str:
    if not is_prose(text):
        raise ValueError("a text has line breaks and tabs, but no other control and no bidirectional character")
    return text


Text = Annotated[
    str,
    StringConstraints(min_length=1, max_length=LONGEST_IDENTIFIER),
    AfterValidator(_identifier),
    Field(json_schema_extra={"pattern": IDENTIFIER}),
]
Comment = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_prose), Field(json_schema_extra={"pattern": PROSE})]
ReasonCode = Annotated[Text, Field(description="Why; a code of your own company")]
Count = BeforeValidator(_counted)
Quantity = Annotated[int, Field(ge=1, le=1_000_000, description="Pieces"), Count]
Months = Annotated[int, Field(ge=1, le=120, description="Months"), Count]
Percent = Annotated[
    Decimal,
    Field(ge=0, le=100, decimal_places=2, description="0 to 100; a number or a decimal string"),
    *_decimal(100, 3),
]
Money = Annotated[
    Decimal,
    Field(ge=0, le=LARGEST_AMOUNT, decimal_places=2, description="In the currency of the quote; a number or a decimal string"),
    *_decimal(LARGEST_AMOUNT, 10),
]
LineNumber = Annotated[int, Field(ge=1, le=2_147_483_647), Count]
Version = Annotated[int, Field(ge=1, lt=10**18), Count]
Moment = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(in_utc)]

"""What clients send. Nothing beyond the named members is taken, and every member has a bound."""

from __future__ import annotations

import re
from datetime import MAXYEAR, UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from domain.delivery.resolving import Resolution
from domain.offers.approvals import Decision
from domain.offers.prices import StalenessPolicy
from domain.offers.quotes import Line
from domain.offers.quoting import MOST_LINES, LineChange

MOST_ENTRIES = 2000  # some 150 kB
LARGEST_AMOUNT = 10**9

_A_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")


# Pydantic would also take "7" and true for a number, and a number, even in quotes, for the seconds since 1970.
def _written(value: object) -> object:
    if not isinstance(value, str) or not _A_DATE.match(value):
        raise ValueError("a moment is text by ISO 8601, with an offset")
    return value


def _counted(value: object) -> object:
    if isinstance(value, str | bool):
        raise ValueError("a count is a number")  # noqa: TRY004 - pydantic turns this one into an answer
    return value


def _numeric(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")  # noqa: TRY004 - as above
    return value


def _decimal(most: int, digits: int) -> WithJsonSchema:
    number = {"type": "number", "minimum": 0, "maximum": most, "multipleOf": 0.01}
    return WithJsonSchema({"anyOf": [number, {"type": "string", "pattern": rf"^[0-9]{{1,{digits}}}(\.[0-9]{{1,2}})?$"}]})


def _storable(moment: datetime) -> datetime:
    # Shown in another time zone it must still have a year of four digits.
    if not 1 < moment.year < MAXYEAR:
        raise ValueError("the year must lie between 2 and 9998")
    return moment.astimezone(UTC)  # PostgreSQL takes no offset of 16 hours and more


# PostgreSQL's text has no NUL; a surrogate that stands alone is refused by pydantic itself.
Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
Comment = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]
ReasonCode = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]+$"),
    Field(description="Why, in the words of your house"),
]
Count = BeforeValidator(_counted)
Quantity = Annotated[int, Field(ge=1, le=1_000_000, description="Pieces"), Count]
Months = Annotated[int, Field(ge=1, le=120, description="Months"), Count]
Percent = Annotated[
    Decimal,
    Field(ge=0, le=100, decimal_places=2, description="0 to 100; a number or a decimal string"),
    BeforeValidator(_numeric),
    _decimal(100, 3),
]
Money = Annotated[
    Decimal,
    Field(ge=0, le=LARGEST_AMOUNT, decimal_places=2, description="In the currency of the quote; a number or a decimal string"),
    BeforeValidator(_numeric),
    _decimal(LARGEST_AMOUNT, 10),
]
LineNumber = Annotated[int, Field(ge=1, le=2_147_483_647), Count]
Version = Annotated[int, Field(ge=1, lt=10**18), Count]
Moment = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(_storable)]


class Body(BaseModel):
    """A request's JSON, in camelCase."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, validate_by_alias=True, validate_by_name=False)


class NewLine(Body):
    product_offering_id: Text
    quantity: Quantity
    term_months: Months
    discount_percent: Percent = Decimal(0)

    def line(self, line_no: int) -> Line:
        """The line as commands carry it."""
        return Line(line_no=line_no, **{name: getattr(self, name) for name in NewLine.model_fields})


class CreateQuoteBody(Body):
    customer_id: Text
    region: Text | None = Field(None, description="Default: the region of the token")
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = Field(description="ISO 4217")
    payment_term_days: Annotated[int, Field(ge=0, le=365), Count] = 30
    valid_until: Moment = Field(description="The moment the offer ends")
    lines: Annotated[list[NewLine], Field(min_length=1, max_length=MOST_LINES)]


class ChangedLine(Body):
    line_no: LineNumber
    quantity: Quantity | None = None
    discount_percent: Percent | None = None
    term_months: Months | None = None

    def change(self) -> LineChange:
        """The change as the command carries it."""
        return LineChange(**{name: getattr(self, name) for name in ChangedLine.model_fields})


class EditQuoteBody(Body):
    expected_revision_id: UUID
    reason_code: ReasonCode
    term_months: Months | None = Field(None, description="For every line")
    valid_until: Moment | None = Field(None, description="Renews the offer; an expired one needs it")
    lines: Annotated[list[ChangedLine], Field(max_length=MOST_LINES)] = []
    add_lines: Annotated[list[NewLine], Field(max_length=MOST_LINES)] = []
    remove_lines: Annotated[list[LineNumber], Field(max_length=MOST_LINES)] = []


class PriceQuoteBody(Body):
    config_result_id: UUID
    catalog_version: Text
    price_book: Text = "STANDARD"
    staleness_policy: StalenessPolicy = StalenessPolicy.VALID_UNTIL_QUOTE_EXPIRY


class SubmitQuoteBody(Body):
    revision_id: UUID
    config_result_id: UUID
    price_result_id: UUID


class IssueDocumentBody(Body):
    revision_id: UUID
    price_result_id: UUID


class AcceptQuoteBody(Body):
    revision_id: UUID
    price_result_id: UUID
    approval_request_id: UUID
    document_id: UUID
    channel: Annotated[str, StringConstraints(pattern=r"^[A-Z_]{1,40}$")] = Field("WEB", description="WEB, PARTNER, …")


class WithdrawBody(Body):
    """Of a recall, a cancellation, a decline."""

    revision_id: UUID
    reason_code: ReasonCode


class DecideBody(Body):
    requirement_id: UUID
    expected_requirement_version: Version
    quote_revision_id: UUID
    price_result_id: UUID
    decision: Decision
    reason_code: ReasonCode
    comment: Comment | None = None


class NewEntry(Body):
    """Per piece and month."""

    product_offering_id: Text
    list_price: Money
    unit_cost: Money


class PublishBody(Body):
    expected_active_version: Text | None = Field(description="The version that these prices replace; null for the first ones")
    price_book_version: Text
    entries: Annotated[list[NewEntry], Field(min_length=1, max_length=MOST_ENTRIES)]
    material_offering_ids: Annotated[
        list[Text], Field(max_length=MOST_ENTRIES, description="Whose price changed so much that older quotes must be priced anew")
    ] = []

    @model_validator(mode="after")
    def _one_price_each(self) -> Self:
        if len({entry.product_offering_id for entry in self.entries}) < len(self.entries):
            raise ValueError("an offering has one price")
        return self


class GrantBody(Body):
    subject: Text
    role: Literal["approverRsm", "approverDirector", "dealDesk", "approverFinance", "approverLegal"]
    max_discount_percent: Percent
    region: Text | None = Field(None, description="Null: every one")
    product_family: Text | None = Field(None, description="Null: every one")
    max_deal_amount: Money | None = Field(None, description="Null: any")
    valid_from: Moment | None = Field(None, description="Null: from now on")
    valid_until: Moment | None = Field(None, description="Null: until it is revoked")


class DelegateBody(Body):
    subject: Text = Field(description="Who may sign instead")
    valid_until: Moment
    valid_from: Moment | None = Field(None, description="Null: from now on")
    max_discount_percent: Percent | None = Field(None, description="Null: as much as the grant")
    max_deal_amount: Money | None = Field(None, description="Null: as much as the grant")


class CancelOrderBody(Body):
    expected_status: Annotated[str, StringConstraints(pattern=r"^[A-Z_]{1,40}$")] = Field(description="As the order was seen")
    reason: ReasonCode


class EmptyBody(Body):
    """An empty object: the path and If-Match say it all."""


class QuestionBody(Body):
    question: Comment


class InformationBody(Body):
    information: Comment


class HoldBody(Body):
    reason: Comment


class ConfirmationBody(Body):
    external_ref: Text = Field(description="The provider's reference that you have seen yourself")
    text: Comment = Field(description="Where you have seen it")


class ResolutionBody(Body):
    resolution: Resolution
    expected_step_version: Version | None = Field(None, description="As the step was seen; null for a case about none")
    external_ref: Text | None = Field(None, description="For MARK_COMPLETED")
    evidence: Comment | None = Field(None, description="What was seen, and where")


class CallbackBody(BaseModel):
    """A provider's event; what it adds beyond these members is kept, not read."""

    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel, validate_by_alias=True, validate_by_name=False)

    event_id: Text
    event_type: Text
    step_ref: Text
    request_id: Text | None = None
    external_ref: Text | None = None
    occurred_at: Moment | None = None

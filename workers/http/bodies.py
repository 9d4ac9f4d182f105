"""What clients send. Nothing beyond the named members is taken, and every member has a bound."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from domain.approvals import Decision
from domain.prices import StalenessPolicy
from domain.quotes import Line
from domain.quoting import LineChange

MOST_LINES = 200

# PostgreSQL's text has no NUL; a surrogate that stands alone is refused by pydantic itself.
Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
Comment = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]
Quantity = Annotated[int, Field(ge=1, le=1_000_000, description="Pieces")]
Months = Annotated[int, Field(ge=1, le=120, description="Months")]
Percent = Annotated[Decimal, Field(ge=0, le=100, decimal_places=2, description="0 to 100; a number or a decimal string")]
LineNumber = Annotated[int, Field(ge=1, le=2_147_483_647)]


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
    payment_term_days: Annotated[int, Field(ge=0, le=365)] = 30
    valid_until: AwareDatetime = Field(description="The moment the offer ends")
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
    reason_code: Text
    term_months: Months | None = Field(None, description="For every line")
    valid_until: AwareDatetime | None = None
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


class DecideBody(Body):
    requirement_id: UUID
    expected_requirement_version: Annotated[int, Field(ge=1, lt=10**18)]
    quote_revision_id: UUID
    price_result_id: UUID
    decision: Decision
    reason_code: Text
    comment: Comment | None = None


class CallbackBody(BaseModel):
    """A provider's event; what it adds beyond these members is kept, not read."""

    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel, validate_by_alias=True, validate_by_name=False)

    event_id: Text
    event_type: Text
    step_ref: Text
    request_id: Text | None = None
    external_ref: Text | None = None
    occurred_at: AwareDatetime | None = None

"""What clients send about quotes and price books, and the commands that these bodies become."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, StringConstraints, model_validator

from domain.accepting import AcceptQuote
from domain.offers.documents import IssueDocument
from domain.offers.price_books import PublishPriceBook
from domain.offers.prices import StalenessPolicy
from domain.offers.quotes import Line
from domain.offers.quoting import MOST_LINES, CreateQuote, EditQuote, LineChange, PriceQuote, SubmitQuote
from domain.offers.withdrawing import CancelQuote, DeclineQuote, RecallQuote
from workers.http.shapes.bodies import Body
from workers.http.shapes.fields import Count, LineNumber, Moment, Money, Months, Percent, Quantity, ReasonCode, Text

MOST_ENTRIES = 2000  # some 150 kB


class NewLine(Body):
    product_offering_id: Text
    quantity: Quantity
    term_months: Months
    discount_percent: Percent = Decimal(0)

    def line(self, line_no: int) -> Line:
        return Line(
            line_no=line_no,
            product_offering_id=self.product_offering_id,
            quantity=self.quantity,
            term_months=self.term_months,
            discount_percent=self.discount_percent,
        )


def _numbered(lines: Sequence[NewLine]) -> list[Line]:
    return [line.line(number) for number, line in enumerate(lines, start=1)]


class CreateQuoteBody(Body):
    customer_id: Text
    region: Text | None = Field(None, description="Default: the region of the token")
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = Field(description="ISO 4217")
    payment_term_days: Annotated[int, Field(ge=0, le=365), Count] = 30
    valid_until: Moment = Field(description="The moment the offer ends")
    lines: Annotated[list[NewLine], Field(min_length=1, max_length=MOST_LINES)]

    def command(self, owner_user_id: str, default_region: str) -> CreateQuote:
        return CreateQuote(
            customer_id=self.customer_id,
            owner_user_id=owner_user_id,
            region=self.region or default_region,
            currency=self.currency,
            payment_term_days=self.payment_term_days,
            valid_until=self.valid_until,
            lines=_numbered(self.lines),
        )


class ChangedLine(Body):
    line_no: LineNumber
    quantity: Quantity | None = None
    discount_percent: Percent | None = None
    term_months: Months | None = None

    def change(self) -> LineChange:
        return LineChange(
            line_no=self.line_no,
            quantity=self.quantity,
            discount_percent=self.discount_percent,
            term_months=self.term_months,
        )


class EditQuoteBody(Body):
    expected_revision_id: UUID
    reason_code: ReasonCode
    term_months: Months | None = Field(None, description="For every line")
    valid_until: Moment | None = Field(None, description="Renews the offer; an expired one needs it")
    lines: list[ChangedLine] = Field([], max_length=MOST_LINES)
    add_lines: list[NewLine] = Field([], max_length=MOST_LINES)
    remove_lines: list[LineNumber] = Field([], max_length=MOST_LINES)

    def command(self, quote_id: UUID, expected_version: int) -> EditQuote:
        return EditQuote(
            quote_id=quote_id,
            expected_version=expected_version,
            revision_id=self.expected_revision_id,
            reason_code=self.reason_code,
            term_months=self.term_months,
            valid_until=self.valid_until,
            lines=[line.change() for line in self.lines],
            add_lines=_numbered(self.add_lines),
            remove_lines=self.remove_lines,
        )


class PriceQuoteBody(Body):
    config_result_id: UUID
    catalog_version: Text
    price_book: Text = "STANDARD"
    staleness_policy: StalenessPolicy = StalenessPolicy.VALID_UNTIL_QUOTE_EXPIRY

    def command(self, quote_id: UUID, expected_version: int) -> PriceQuote:
        return PriceQuote(
            quote_id=quote_id,
            expected_version=expected_version,
            config_result_id=self.config_result_id,
            catalog_version=self.catalog_version,
            price_book=self.price_book,
            staleness_policy=self.staleness_policy,
        )


class SubmitQuoteBody(Body):
    revision_id: UUID
    config_result_id: UUID
    price_result_id: UUID

    def command(self, quote_id: UUID, expected_version: int) -> SubmitQuote:
        return SubmitQuote(
            quote_id=quote_id,
            expected_version=expected_version,
            revision_id=self.revision_id,
            config_result_id=self.config_result_id,
            price_result_id=self.price_result_id,
        )


class IssueDocumentBody(Body):
    revision_id: UUID
    price_result_id: UUID

    def command(self, quote_id: UUID, expected_version: int) -> IssueDocument:
        return IssueDocument(
            quote_id=quote_id,
            expected_version=expected_version,
            revision_id=self.revision_id,
            price_result_id=self.price_result_id,
        )


class AcceptQuoteBody(Body):
    revision_id: UUID
    price_result_id: UUID
    approval_request_id: UUID
    document_id: UUID
    channel: Annotated[str, StringConstraints(pattern=r"^[A-Z_]{1,40}$")] = Field("WEB", description="WEB, PARTNER, …")

    def command(self, quote_id: UUID, expected_version: int) -> AcceptQuote:
        return AcceptQuote(
            quote_id=quote_id,
            expected_version=expected_version,
            revision_id=self.revision_id,
            price_result_id=self.price_result_id,
            approval_request_id=self.approval_request_id,
            document_id=self.document_id,
            channel=self.channel,
        )


class WithdrawBody(Body):
    """The body of a recall, a cancellation or a decline."""

    revision_id: UUID
    reason_code: ReasonCode

    def recall(self, quote_id: UUID, expected_version: int) -> RecallQuote:
        return RecallQuote(
            quote_id=quote_id, expected_version=expected_version, revision_id=self.revision_id, reason_code=self.reason_code
        )

    def cancellation(self, quote_id: UUID, expected_version: int) -> CancelQuote:
        return CancelQuote(
            quote_id=quote_id, expected_version=expected_version, revision_id=self.revision_id, reason_code=self.reason_code
        )

    def decline(self, quote_id: UUID, expected_version: int) -> DeclineQuote:
        return DeclineQuote(
            quote_id=quote_id, expected_version=expected_version, revision_id=self.revision_id, reason_code=self.reason_code
        )


class NewEntry(Body):
    """Per piece and month."""

    product_offering_id: Text
    list_price: Money
    unit_cost: Money


class PublishBody(Body):
    expected_active_version: Text | None = Field(description="The version that these prices replace; null for the first ones")
    price_book_version: Text
    entries: Annotated[list[NewEntry], Field(min_length=1, max_length=MOST_ENTRIES)]
    material_offering_ids: list[Text] = Field(
        [], max_length=MOST_ENTRIES, description="Offerings whose price changed so much that older quotes must be priced again"
    )

    @model_validator(mode="after")
    def _one_price_each(self) -> Self:
        if len({entry.product_offering_id for entry in self.entries}) < len(self.entries):
            raise ValueError("an offering has one price")
        return self

    def command(self, price_book: str) -> PublishPriceBook:
        return PublishPriceBook(
            price_book=price_book,
            expected_active_version=self.expected_active_version,
            price_book_version=self.price_book_version,
            entries={entry.product_offering_id: (entry.list_price, entry.unit_cost) for entry in self.entries},
            material_offering_ids=self.material_offering_ids,
        )

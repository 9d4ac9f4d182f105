"""Acceptance: the customer accepts one approved revision, and the same transaction creates its order (docs/domain.md#acceptance).

Two layers keep "one order for a revision": the guarded move of the quote, and the unique index on the order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, Select, Uuid, bindparam, exists, func, insert, select

from domain.delivery import orders
from domain.delivery.orders import OrderStatus, SalesOrder, SalesOrderLine
from domain.errors import AlreadyExists, Conflict, NotFound, SafeAction, TryAgain
from domain.offers import quotes
from domain.offers.acceptances import QuoteAcceptance
from domain.offers.approvals import (
    ApprovalMissing,
    ApprovalRequest,
    ApprovalRequirement,
    RequestStatus,
    RequirementStatus,
    StaleApproval,
)
from domain.offers.documents import QuoteDocument
from domain.offers.price_books import PriceBookHead
from domain.offers.prices import PriceResult, StalePrice, price_still_acceptable
from domain.offers.quotes import QUOTE_MATRIX, Quote, QuoteEvent, QuoteExpired, QuoteLine, QuoteVersionConflict
from domain.offers.quoting import CURRENT_PRICE
from domain.store import Guard, Move, UnitOfWork, param, table_of
from domain.store.sending import named
from domain.workflows import starts

WORKFLOW = "order-fulfillment"


class DocumentMismatch(Conflict):
    """The named document shows another revision or price."""

    safe_action = SafeAction.REISSUE_DOCUMENT


APPROVED_REQUEST = (ApprovalRequest.tenant_id == Quote.tenant_id) & (ApprovalRequest.id == param("approval_request_id"))
STALE_PRICE_APPROVED = exists(
    select(ApprovalRequirement.id).where(
        ApprovalRequirement.tenant_id == Quote.tenant_id,
        ApprovalRequirement.request_id == param("approval_request_id"),
        ApprovalRequirement.type == "STALE_PRICE",
        ApprovalRequirement.status == RequirementStatus.APPROVED,
    )
)

ACCEPT = Move(
    Quote,
    QUOTE_MATRIX,
    QuoteEvent.ACCEPT,
    # The exact reasons come first: a version conflict would be true in each of these cases too, and say less (decision 0004).
    Guard(QuoteExpired, Quote.valid_until > func.clock_timestamp()),
    Guard(
        StaleApproval,
        (Quote.current_revision_id == param("revision_id"))
        & ~exists(select(ApprovalRequest.id).where(APPROVED_REQUEST, ApprovalRequest.quote_revision_id != param("revision_id"))),
    ),
    Guard(
        ApprovalMissing,
        exists(
            select(ApprovalRequest.id).where(
                APPROVED_REQUEST,
                ApprovalRequest.quote_revision_id == param("revision_id"),
                ApprovalRequest.price_result_id == param("price_result_id"),
                ApprovalRequest.status == RequestStatus.APPROVED,
            )
        ),
    ),
    Guard(StalePrice, CURRENT_PRICE.condition & price_still_acceptable(param("price_result_id"), STALE_PRICE_APPROVED)),
    Guard(
        DocumentMismatch,
        exists(
            select(QuoteDocument.id).where(
                QuoteDocument.tenant_id == Quote.tenant_id,
                QuoteDocument.id == param("document_id"),
                QuoteDocument.quote_revision_id == param("revision_id"),
                QuoteDocument.price_result_id == param("price_result_id"),
            )
        ),
    ),
    Guard(QuoteVersionConflict, Quote.version == param("expected_version")),
    emits="QuoteAccepted",
    end_first=True,
)

PRICE, HEAD = table_of(PriceResult), table_of(PriceBookHead)
# One query reads the price and locks the head FOR SHARE: a publication waits for us, or we see it (docs/domain.md#price-freshness).
PRICE_UNDER_ITS_HEAD = (
    select(PRICE.c.price_book_version, PRICE.c.staleness_policy, HEAD.c.active_version, HEAD.c.published_at)
    .join(HEAD, (HEAD.c.tenant_id == PRICE.c.tenant_id) & (HEAD.c.price_book == PRICE.c.price_book))
    .where(PRICE.c.tenant_id == param("tenant_id"), PRICE.c.id == param("id"))
    .with_for_update(read=True, of=HEAD)
)

LINE, ORDER_LINE = table_of(QuoteLine), table_of(SalesOrderLine)
COPIED = ("line_no", "product_offering_id", "action", "quantity")
COPY_LINES = insert(ORDER_LINE).from_select(
    ["tenant_id", "id", "order_id", *COPIED],
    select(
        LINE.c.tenant_id,
        func.gen_random_uuid(),
        bindparam(named(ORDER_LINE, "order_id"), type_=Uuid()),
        *(LINE.c[name] for name in COPIED),
    ).where(
        LINE.c.tenant_id == bindparam(named(ORDER_LINE, "tenant_id")),
        LINE.c.revision_id == bindparam(named(ORDER_LINE, "revision_id")),
    ),
    include_defaults=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptQuote:
    """Everything that the customer has seen: revision, price, approval, document, and the version of the quote that shows them."""

    quote_id: UUID
    expected_version: int
    revision_id: UUID
    price_result_id: UUID
    approval_request_id: UUID
    document_id: UUID
    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """The order of an acceptance. `is_new` is False when the identical offer was accepted before, under another idempotency key."""

    order: Row[Any]
    quote_version: int
    is_new: bool


def accept(uow: UnitOfWork, command: AcceptQuote) -> Acceptance:
    """Accept the approved revision and create its order, or find the order that an identical acceptance created.

    Raises NotFound, TryAgain and the refusals of ACCEPT.
    """
    price = _lock_price(uow, command)
    try:
        quote = uow.apply(ACCEPT, command)
    except Conflict as refusal:
        earlier = _identical_acceptance(uow, command)
        if earlier is None:
            refusal.evidence["staleness_policy"] = price.staleness_policy
            raise
        return earlier
    try:
        order = _create_order(uow, quote, command)
    except AlreadyExists as rival:
        # Only the index refused, and the move of the quote cannot be undone here: the next try as a whole finds the rival's order.
        raise TryAgain from rival
    uow.add(
        QuoteAcceptance,
        {
            "quote_id": quote.id,
            "quote_revision_id": command.revision_id,
            "price_book_version": price.price_book_version,
            "active_price_book_version_seen": price.active_version,
            "active_version_published_at": price.published_at,
            "staleness_policy": price.staleness_policy,
            "accepted_by": uow.cause.actor,
            "accepted_at": quote.updated_at,
            "order_id": order.id,
            **{name: getattr(command, name) for name in ("price_result_id", "approval_request_id", "document_id", "channel")},
        },
    )
    return Acceptance(order=order, quote_version=quote.version, is_new=True)


def _lock_price(uow: UnitOfWork, command: AcceptQuote) -> Row[Any]:
    try:
        return uow.one(PRICE_UNDER_ITS_HEAD, "The price", id=command.price_result_id)
    except NotFound:
        quote = uow.read(Quote, command.quote_id)  # NotFound for the quote says more
        raise StalePrice.about(quote) from None


def _identical_acceptance(uow: UnitOfWork, command: AcceptQuote) -> Acceptance | None:
    acceptance, order, quote = table_of(QuoteAcceptance), table_of(SalesOrder), table_of(Quote)
    names = ("price_result_id", "approval_request_id", "document_id")
    query: Select[Any] = (
        select(*order.c, quote.c.version.label("quote_version"))
        .join(acceptance, (acceptance.c.tenant_id == order.c.tenant_id) & (acceptance.c.order_id == order.c.id))
        .join(quote, (quote.c.tenant_id == order.c.tenant_id) & (quote.c.id == order.c.quote_id))
        .where(order.c.tenant_id == uow.tenant_id, order.c.quote_id == command.quote_id)
        .where(
            acceptance.c.quote_revision_id == command.revision_id, *(acceptance.c[name] == getattr(command, name) for name in names)
        )
    )
    found = uow.connection.execute(query).one_or_none()
    if found is None:
        return None
    uow.summary.repeat("sales_order", found)
    return Acceptance(order=found, quote_version=found.quote_version, is_new=False)


def _create_order(uow: UnitOfWork, quote: Row[Any], command: AcceptQuote) -> Row[Any]:
    order_id = uuid4()
    order = uow.create(
        SalesOrder,
        reason="ACCEPT",
        emits="OrderCreated",
        id=order_id,
        status=OrderStatus.CREATED,
        order_kind="PRIMARY",
        quote_id=quote.id,
        quote_revision_id=command.revision_id,
        customer_id=quote.customer_id,
        currency=quote.currency,
        net_total=quote.net_total,
    )
    quotes.change_revision(uow, command.revision_id, status=quotes.RevisionStatus.ACCEPTED)
    uow.write(COPY_LINES, order_id=order_id, revision_id=command.revision_id)
    starts.begin(
        uow,
        starts.BeginWorkflow(
            workflow_name=WORKFLOW,
            aggregate_type="sales_order",
            aggregate_id=order_id,
            business_key=orders.business_key(uow.tenant_id, order_id),
            variables={"order_id": order_id},
        ),
    )
    return order

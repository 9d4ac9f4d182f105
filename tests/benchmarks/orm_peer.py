"""The peer of P3: the same acceptance as most Python services would write it, with an ORM session, loaded objects and `version_id_col`.

It checks the same preconditions, in Python on loaded rows, and writes the same rows. It is a fair peer, not a straw man: identity map and
unit of work do their job, nothing is loaded twice, and rows of one table go in one INSERT where the ORM can do that.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, relationship

from domain.accepting import WORKFLOW, AcceptQuote
from domain.delivery import orders
from domain.offers import approvals, documents, prices, quotes
from domain.offers.acceptances import QuoteAcceptance
from domain.offers.price_books import PriceBookHead
from domain.store import as_json, table_of
from domain.store.facts import TOPICS, OutboxEvent, TransitionLog, WorkflowCommand
from domain.store.idempotency import IdempotencyRecord, request_hash
from domain.store.isolation import name_tenant
from domain.workflows import starts
from tests.support.offers import CUSTOMER

QUOTE, REVISION, LINE, ORDER = (
    table_of(entity) for entity in (quotes.Quote, quotes.QuoteRevision, quotes.QuoteLine, orders.SalesOrder)
)


class Peer(DeclarativeBase):
    """Classes of the peer, on the product's tables."""


class Quote(Peer):
    __table__ = QUOTE
    __mapper_args__ = {"version_id_col": QUOTE.c.version}  # noqa: RUF012 - SQLAlchemy reads it from the class
    revision: Mapped[Revision] = relationship(
        "Revision",
        primaryjoin=lambda: QUOTE.c.current_revision_id == REVISION.c.id,
        foreign_keys=lambda: [QUOTE.c.current_revision_id],
    )


class Revision(Peer):
    __table__ = REVISION
    lines: Mapped[list[QuoteLine]] = relationship(
        "QuoteLine",
        primaryjoin=lambda: LINE.c.revision_id == REVISION.c.id,
        foreign_keys=lambda: [LINE.c.revision_id],
        order_by=lambda: LINE.c.line_no,
    )


class QuoteLine(Peer):
    __table__ = LINE


class Price(Peer):
    __table__ = table_of(prices.PriceResult)


class Head(Peer):
    __table__ = table_of(PriceBookHead)


class Request(Peer):
    __table__ = table_of(approvals.ApprovalRequest)


class Document(Peer):
    __table__ = table_of(documents.QuoteDocument)


class Order(Peer):
    __table__ = ORDER
    __mapper_args__ = {"version_id_col": ORDER.c.version}  # noqa: RUF012


class OrderLine(Peer):
    __table__ = table_of(orders.SalesOrderLine)


class Acceptance(Peer):
    __table__ = table_of(QuoteAcceptance)


class Correlation(Peer):
    __table__ = table_of(starts.WorkflowCorrelation)


class Transition(Peer):
    __table__ = table_of(TransitionLog)


class Event(Peer):
    __table__ = table_of(OutboxEvent)


class EngineCommand(Peer):
    __table__ = table_of(WorkflowCommand)


class Claim(Peer):
    __table__ = table_of(IdempotencyRecord)


def accept(engine: Engine, tenant_id: UUID, command: AcceptQuote) -> None:
    """Accept an approved quote."""
    with Session(engine) as session, session.begin():
        name_tenant(session.connection(), tenant_id)
        claim = _claim(session, tenant_id, command)
        quote: Any = session.execute(select(Quote).filter_by(tenant_id=tenant_id, id=command.quote_id)).scalar_one()
        price: Any = session.get_one(Price, (tenant_id, command.price_result_id))
        head: Any = session.execute(
            select(Head).filter_by(tenant_id=tenant_id, price_book=price.price_book).with_for_update(read=True)
        ).scalar_one()
        _demand(session, quote, price, command)
        order = _order(quote, command)
        session.add(order)
        quote.prior_status, quote.status, quote.updated_at = quote.status, quotes.QuoteStatus.ACCEPTED, datetime.now(UTC)
        quote.revision.status = quotes.RevisionStatus.ACCEPTED
        session.flush()  # the order's number and the version that the events must tell
        session.add_all(_evidence(quote, price, head, order, command))
        answer = {"order_id": order.id, "order_number": order.order_number, "quote_version": quote.version}
        claim.status, claim.response_status, claim.response_body = "COMPLETED", 201, as_json(answer)
        claim.response_version, claim.updated_at = quote.version, datetime.now(UTC)


def _claim(session: Session, tenant_id: UUID, command: AcceptQuote) -> Any:
    key = str(uuid4())
    claim: Any = Claim(
        tenant_id=tenant_id,
        command_name="accept-quote",
        idempotency_key=key,
        request_hash=request_hash({"quoteId": command.quote_id, "channel": command.channel}),
        status="IN_PROGRESS",
        actor=CUSTOMER,
    )
    session.add(claim)
    session.flush()
    return claim


def _demand(session: Session, quote: Any, price: Any, command: AcceptQuote) -> None:
    request: Any = session.get_one(Request, (quote.tenant_id, command.approval_request_id))
    document: Any = session.get_one(Document, (quote.tenant_id, command.document_id))
    assert quote.status == quotes.QuoteStatus.APPROVED
    assert quote.version == command.expected_version
    assert quote.valid_until > datetime.now(UTC)
    assert quote.current_revision_id == command.revision_id == request.quote_revision_id == document.quote_revision_id
    assert price.id == request.price_result_id == document.price_result_id
    assert request.status == approvals.RequestStatus.APPROVED
    assert price.input_hash == quote.revision.content_hash
    assert price.staleness_policy == prices.StalenessPolicy.VALID_UNTIL_QUOTE_EXPIRY


def _order(quote: Any, command: AcceptQuote) -> Any:
    return Order(
        tenant_id=quote.tenant_id,
        id=uuid4(),
        status=orders.OrderStatus.CREATED,
        order_kind="PRIMARY",
        quote_id=quote.id,
        quote_revision_id=command.revision_id,
        customer_id=quote.customer_id,
    )


def _evidence(quote: Any, price: Any, head: Any, order: Any, command: AcceptQuote) -> list[Any]:
    owned = {"tenant_id": quote.tenant_id}
    key = orders.business_key(quote.tenant_id, order.id)
    correlation: Any = Correlation(
        **owned,
        id=uuid4(),
        version=1,
        status=starts.CorrelationStatus.REQUESTED,
        aggregate_type="sales_order",
        aggregate_id=order.id,
        workflow_name=WORKFLOW,
        business_key=key,
        start_token=uuid4(),
        variables={"orderId": str(order.id)},
    )
    names = ("line_no", "product_offering_id", "action", "quantity")
    copied = [{name: getattr(line, name) for name in names} for line in quote.revision.lines]
    lines = [OrderLine(**owned, id=uuid4(), order_id=order.id, **line) for line in copied]
    acceptance = Acceptance(
        **owned,
        id=uuid4(),
        quote_id=quote.id,
        quote_revision_id=command.revision_id,
        price_result_id=price.id,
        approval_request_id=command.approval_request_id,
        document_id=command.document_id,
        price_book_version=price.price_book_version,
        active_price_book_version_seen=head.active_version,
        active_version_published_at=head.published_at,
        staleness_policy=price.staleness_policy,
        accepted_by=CUSTOMER,
        channel=command.channel,
        accepted_at=quote.updated_at,
        order_id=order.id,
    )
    start = EngineCommand(
        **owned,
        id=uuid4(),
        version=1,
        status="PENDING",
        kind="START",
        business_key=key,
        name=WORKFLOW,
        variables={"orderId": str(order.id), "startToken": str(correlation.start_token)},
    )
    changed = (
        ("quote", quote, "QuoteAccepted"),
        ("sales_order", order, "OrderCreated"),
        ("workflow_correlation", correlation, None),
    )
    told = [fact for aggregate, row, event in changed for fact in _facts(aggregate, row, event)]
    return [*lines, correlation, acceptance, start, *told]


def _facts(aggregate: str, row: Any, event: str | None) -> list[Any]:
    shared = {
        "tenant_id": row.tenant_id,
        "aggregate_type": aggregate,
        "aggregate_id": row.id,
        "aggregate_version": row.version,
        "command_id": uuid4(),
    }
    moved = {"transition_from": row.prior_status, "transition_to": row.status, "reason": "ACCEPT", "actor": CUSTOMER}
    facts: list[Any] = [Transition(**shared, **moved, id=uuid4())]
    if event:
        payload = as_json({column.name: getattr(row, column.name) for column in row.__table__.c})
        facts.append(Event(**shared, id=uuid4(), event_type=event, topic=TOPICS[aggregate], payload=payload))
    return facts

"""Quotes: offers that a customer may accept once, before they expire. A revision is what was offered.

A quote changes by moves only. A revision can be edited while it is WORKING; from submission on its content never changes again, and an
edit makes the next revision (docs/domain.md#quotes-and-revisions). Term: TMF648 Quote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Numeric, Row, UniqueConstraint, delete, event, func, select, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.errors import Conflict, Invalid, SafeAction
from domain.store import Aggregate, Base, Matrix, Owned, UnitOfWork, next_number, ref, table_of
from domain.store.base import ddl
from domain.store.idempotency import request_hash
from domain.store.moves import param
from domain.store.sending import change_of
from domain.workflows.keys import Kind, key_of


class QuoteStatus(StrEnum):
    DRAFT = "DRAFT"
    PRICED = "PRICED"
    SUBMITTED_FOR_APPROVAL = "SUBMITTED_FOR_APPROVAL"
    APPROVAL_IN_PROGRESS = "APPROVAL_IN_PROGRESS"
    APPROVED = "APPROVED"
    REWORK_REQUIRED = "REWORK_REQUIRED"
    REJECTED = "REJECTED"
    ACCEPTED = "ACCEPTED"
    DECLINED = "DECLINED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"


class QuoteEvent(StrEnum):
    EDIT = "EDIT"
    PRICE = "PRICE"
    SUBMIT = "SUBMIT"
    OPEN_REQUIREMENTS = "OPEN_REQUIREMENTS"
    NONE_REQUIRED = "NONE_REQUIRED"
    APPROVE = "APPROVE"
    REJECT = "REJECT"
    REWORK = "REWORK"
    RECALL = "RECALL"
    ACCEPT = "ACCEPT"
    DECLINE = "DECLINE"
    EXPIRE = "EXPIRE"
    CANCEL = "CANCEL"


# S and E stand for states and events in the matrix below.
S, E = QuoteStatus, QuoteEvent
IN_APPROVAL = (S.SUBMITTED_FOR_APPROVAL, S.APPROVAL_IN_PROGRESS)
FINAL = (S.ACCEPTED, S.CANCELLED)
OPEN = tuple(state for state in S if state not in FINAL)

QUOTE_MATRIX = Matrix(
    QuoteStatus,
    QuoteEvent,
    moves={
        E.EDIT: dict.fromkeys(OPEN, S.DRAFT),
        E.PRICE: {S.DRAFT: S.PRICED, S.PRICED: S.PRICED, S.APPROVED: S.PRICED},
        E.SUBMIT: {S.PRICED: S.SUBMITTED_FOR_APPROVAL},
        E.OPEN_REQUIREMENTS: {S.SUBMITTED_FOR_APPROVAL: S.APPROVAL_IN_PROGRESS},
        E.NONE_REQUIRED: {S.SUBMITTED_FOR_APPROVAL: S.APPROVED},
        E.APPROVE: {S.APPROVAL_IN_PROGRESS: S.APPROVED},
        E.REJECT: {S.APPROVAL_IN_PROGRESS: S.REJECTED},
        E.REWORK: {S.APPROVAL_IN_PROGRESS: S.REWORK_REQUIRED},
        E.RECALL: dict.fromkeys(IN_APPROVAL, S.DRAFT),
        E.ACCEPT: {S.APPROVED: S.ACCEPTED},
        E.DECLINE: {S.APPROVED: S.DECLINED},
        E.EXPIRE: dict.fromkeys((state for state in OPEN if state is not S.EXPIRED), S.EXPIRED),
        E.CANCEL: dict.fromkeys(OPEN, S.CANCELLED),
    },
    keeps={
        E.OPEN_REQUIREMENTS: frozenset({S.APPROVAL_IN_PROGRESS}),
        E.APPROVE: frozenset({S.APPROVED}),
        E.EXPIRE: frozenset({S.EXPIRED}),
        E.CANCEL: frozenset({S.CANCELLED}),
    },
)
"""A second acceptance gets the existing order from `accepting`, not from a cell (docs/domain.md#quotes-and-revisions)."""

EXPIRING = tuple(QUOTE_MATRIX.targets(E.EXPIRE))
"""States that end at `valid_until`."""
IS_SUBMITTED = f"status = '{QuoteStatus.SUBMITTED_FOR_APPROVAL}'"
EXPIRING_SQL = ", ".join(f"'{state.value}'" for state in EXPIRING)


class QuoteVersionConflict(Conflict):
    """The quote has changed since this version of it was read."""


class StaleRevision(Conflict):
    """The quote has moved on to another revision."""


class QuoteExpired(Conflict):
    """The quote is not valid any more: its validity has ended."""

    safe_action = SafeAction.RENEW_QUOTE


class UnknownLine(Invalid):
    """The revision has no such line."""


class Quote(Aggregate, Base):
    """TMF648 Quote. Commands may name `current_revision_id` alone; `net_total` is its price; `reason_code` is that of the last change."""

    ID_FIELD = "quote_id"
    __tablename__ = "quote"
    __table_args__ = (
        QUOTE_MATRIX.check_status(),
        UniqueConstraint("tenant_id", "quote_number"),
        ref("quote_revision", "current_revision_id", of={"id": "quote_id"}, deferrable=True, initially="DEFERRED", use_alter=True),
        Index("ix_quote_expiring", "tenant_id", "valid_until", postgresql_where=text(f"status IN ({EXPIRING_SQL})")),
        Index("ix_quote_submitted", "tenant_id", "updated_at", postgresql_where=text(IS_SUBMITTED)),
        Index("ix_quote_accepted", "updated_at", postgresql_where=text("status = 'ACCEPTED'")),
        Index("ix_quote_changed", "updated_at", "id"),
    )
    quote_number: Mapped[str] = mapped_column(server_default=next_number("Q"))
    customer_id: Mapped[str]
    owner_user_id: Mapped[str]
    region: Mapped[str]
    currency: Mapped[str]
    payment_term_days: Mapped[int]
    current_revision_id: Mapped[UUID]
    valid_until: Mapped[datetime]
    reason_code: Mapped[str | None]
    net_total: Mapped[Decimal | None]


class RevisionStatus(StrEnum):
    WORKING = "WORKING"
    FROZEN = "FROZEN"
    SUPERSEDED = "SUPERSEDED"
    ACCEPTED = "ACCEPTED"


class QuoteRevision(Owned, Base):
    """What is offered. Changes only together with its quote (same transaction, version bumped)."""

    __tablename__ = "quote_revision"
    __table_args__ = (
        ref("quote"),
        UniqueConstraint("tenant_id", "quote_id", "revision_no"),
        # Lets a row that names a quote and a revision prove by a foreign key that they belong together.
        UniqueConstraint("tenant_id", "quote_id", "id"),
        CheckConstraint("status IN ('WORKING', 'FROZEN', 'SUPERSEDED', 'ACCEPTED')", name="status"),
        Index("uq_quote_revision_working", "tenant_id", "quote_id", unique=True, postgresql_where=text("status = 'WORKING'")),
        Index("uq_quote_revision_accepted", "tenant_id", "quote_id", unique=True, postgresql_where=text("status = 'ACCEPTED'")),
    )
    quote_id: Mapped[UUID]
    revision_no: Mapped[int]
    status: Mapped[str]
    config_result_id: Mapped[UUID | None]
    price_result_id: Mapped[UUID | None]
    content_hash: Mapped[str]
    frozen_at: Mapped[datetime | None]


class QuoteLine(Owned, Base):
    """One offering on one revision."""

    __tablename__ = "quote_line"
    __table_args__ = (
        ref("quote_revision", "revision_id"),
        UniqueConstraint("tenant_id", "revision_id", "line_no"),
        CheckConstraint("quantity > 0", name="quantity"),
        CheckConstraint("discount_percent BETWEEN 0 AND 100", name="discount"),
    )
    revision_id: Mapped[UUID]
    line_no: Mapped[int]
    product_offering_id: Mapped[str]
    action: Mapped[str]
    quantity: Mapped[int]
    term_months: Mapped[int]
    discount_percent: Mapped[Decimal] = mapped_column(Numeric(5, 2))
    reason_code: Mapped[str | None]


# The offer that a customer has seen must not change, not even by a statement that somebody types by hand.
FROZEN_CONTENT = ddl("""
CREATE FUNCTION refuse_frozen_content() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    tenant uuid := CASE TG_OP WHEN 'DELETE' THEN OLD.tenant_id ELSE NEW.tenant_id END;
BEGIN
    -- A line that moves is taken from one revision and given to another.
    IF EXISTS (SELECT FROM quote_revision WHERE tenant_id = tenant AND id IN (OLD.revision_id, NEW.revision_id) AND status <> 'WORKING') THEN
        IF TG_OP = 'DELETE' AND deletes_archived() THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'lines of a revision that is not WORKING are never changed' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER quote_line_frozen BEFORE INSERT OR UPDATE OR DELETE ON quote_line
FOR EACH ROW EXECUTE FUNCTION refuse_frozen_content()""")
FROZEN_REVISION = ddl("""
CREATE FUNCTION refuse_frozen_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> 'WORKING' AND (NEW.status = 'WORKING'
        OR (NEW.content_hash, NEW.price_result_id, NEW.config_result_id, NEW.quote_id, NEW.revision_no)
        IS DISTINCT FROM (OLD.content_hash, OLD.price_result_id, OLD.config_result_id, OLD.quote_id, OLD.revision_no)) THEN
        RAISE EXCEPTION 'a revision that is not WORKING is never changed' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER quote_revision_frozen BEFORE UPDATE ON quote_revision
FOR EACH ROW EXECUTE FUNCTION refuse_frozen_revision()""")
event.listen(table_of(QuoteLine), "after_create", FROZEN_CONTENT)
event.listen(table_of(QuoteRevision), "after_create", FROZEN_REVISION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line as a command carries it; `quantity` in pieces, `term_months` in months, `discount_percent` 0 to 100."""

    line_no: int
    product_offering_id: str
    quantity: int
    term_months: int
    discount_percent: Decimal
    action: str = "ADD"
    reason_code: str | None = None


REVISION, LINE = table_of(QuoteRevision), table_of(QuoteLine)
_LINES_OF_A_REVISION = (
    select(*(LINE.c[name] for name in Line.__dataclass_fields__))
    .where(LINE.c.tenant_id == param("tenant_id"), LINE.c.revision_id == param("revision_id"))
    .order_by(LINE.c.line_no)
)
FREEZE = change_of(REVISION, ("status",)).values(frozen_at=func.clock_timestamp())


def business_key(tenant_id: UUID, quote_id: UUID, revision_id: UUID) -> str:
    """The engine's name for the approval of one revision."""
    return key_of(Kind.QUOTE_REVISION, tenant_id, quote_id, revision_id)


def content_hash(lines: Sequence[Line], payment_term_days: int, currency: str) -> str:
    """Fingerprint of what is offered: a price or configuration result of another content is stale."""
    content = [
        [line.line_no, line.product_offering_id, line.action, line.quantity, line.term_months, f"{line.discount_percent:.2f}"]
        for line in lines
    ]
    return request_hash({"lines": content, "paymentTermDays": payment_term_days, "currency": currency})


def read_revision(uow: UnitOfWork, revision_id: UUID) -> Row[Any]:
    """The revision's row. Raises NotFound."""
    return uow.read(QuoteRevision, revision_id)


def read_lines(uow: UnitOfWork, revision_id: UUID) -> list[Line]:
    """The revision's lines in their order."""
    return [Line(**row._mapping) for row in uow.rows(_LINES_OF_A_REVISION, revision_id=revision_id)]


def open_revision(uow: UnitOfWork, quote_id: UUID, revision_id: UUID, revision_no: int, content: str) -> None:
    """Insert a WORKING revision without lines."""
    uow.add(
        QuoteRevision,
        {
            "id": revision_id,
            "quote_id": quote_id,
            "revision_no": revision_no,
            "status": RevisionStatus.WORKING,
            "content_hash": content,
        },
    )


def change_revision(uow: UnitOfWork, revision_id: UUID, **values: Any) -> None:
    """Change a revision's row; the caller has locked its quote by a move in the same transaction."""
    uow.change(QuoteRevision, revision_id, **values)


def put_lines(uow: UnitOfWork, revision_id: UUID, lines: Sequence[Line]) -> None:
    """Make these the lines of a WORKING revision."""
    uow.connection.execute(delete(LINE).filter_by(tenant_id=uow.tenant_id, revision_id=revision_id))
    uow.add(
        QuoteLine,
        *({"revision_id": revision_id, **{name: getattr(line, name) for name in Line.__dataclass_fields__}} for line in lines),
    )


def freeze(uow: UnitOfWork, revision_id: UUID) -> None:
    """Freeze a revision: its content never changes again."""
    uow.write(FREEZE, id=revision_id, new_status=RevisionStatus.FROZEN)

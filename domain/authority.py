"""Who may sign how much: authority grants, and their delegation for the time of an absence.

A role says what somebody is, a grant how far that reaches: which region, products, discount and amount, and until when. A delegated grant
never reaches further than the one that it comes from, and ends with it (docs/decisions/0009-authority-is-granted-held-and-kept.md). Nobody
grants authority to themselves, and a wide grant counts only after a second person has confirmed it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    Index,
    Numeric,
    SQLColumnExpression,
    exists,
    func,
    select,
    text,
    true,
)
from sqlalchemy.orm import Mapped, mapped_column

from domain.store import Aggregate, Base, Matrix, UnitOfWork, ref, table_of


class GrantStatus(StrEnum):
    PROPOSED = "PROPOSED"
    ACTIVE = "ACTIVE"
    REVOKED = "REVOKED"


class GrantEvent(StrEnum):
    CONFIRM = "CONFIRM"
    REVOKE = "REVOKE"
    END = "END"


GRANT_MATRIX = Matrix(
    GrantStatus,
    GrantEvent,
    moves={
        GrantEvent.CONFIRM: {GrantStatus.PROPOSED: GrantStatus.ACTIVE},
        GrantEvent.REVOKE: {GrantStatus.PROPOSED: GrantStatus.REVOKED, GrantStatus.ACTIVE: GrantStatus.REVOKED},
        GrantEvent.END: {GrantStatus.ACTIVE: GrantStatus.REVOKED},
    },
)


class AuthorityGrant(Aggregate, Base):
    """How far a subject's signature reaches in one role. None as region, product family or amount: every one; as `valid_until`: until revoked.

    `max_discount_percent` is 0 to 100, `max_deal_amount` in the quote's currency. `delegated_by` is the holder of `delegated_from`.
    `granted_by` None: granted before the product kept it. `confirmed_by` None: one administrator was enough, or none has confirmed it yet.
    """

    ID_FIELD = "grant_id"
    __tablename__ = "authority_grant"
    __table_args__ = (
        GRANT_MATRIX.check_status(),
        ref("authority_grant", "delegated_from"),
        CheckConstraint("max_discount_percent BETWEEN 0 AND 100", name="discount"),
        CheckConstraint("valid_until > valid_from", name="validity"),
        CheckConstraint("(delegated_from IS NULL) = (delegated_by IS NULL)", name="delegation"),
        CheckConstraint("granted_by <> subject AND confirmed_by <> subject AND confirmed_by <> granted_by", name="second_person"),
        Index("ix_authority_grant_subject", "tenant_id", "subject", "id"),
        Index("ix_authority_grant_delegated_by", "tenant_id", "delegated_by", postgresql_where=text("delegated_by IS NOT NULL")),
        Index("ix_authority_grant_active", "tenant_id", "subject", "role", postgresql_where=text("status = 'ACTIVE'")),
    )
    subject: Mapped[str]
    role: Mapped[str]
    region: Mapped[str | None]
    product_family: Mapped[str | None]
    max_discount_percent: Mapped[Decimal] = mapped_column(Numeric(5, 2))
    max_deal_amount: Mapped[Decimal | None]
    valid_from: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    valid_until: Mapped[datetime | None]
    delegated_from: Mapped[UUID | None]
    delegated_by: Mapped[str | None]
    granted_by: Mapped[str | None]
    confirmed_by: Mapped[str | None]


GRANT = table_of(AuthorityGrant)


def active_now() -> tuple[ColumnElement[bool], ...]:
    """What makes a grant count at this moment."""
    grant, now = AuthorityGrant, func.clock_timestamp()
    return grant.status == GrantStatus.ACTIVE, grant.valid_from <= now, func.coalesce(grant.valid_until > now, true())


def is_granted(
    tenant_id: SQLColumnExpression[UUID], subject: ColumnElement[str], *limits: ColumnElement[bool]
) -> ColumnElement[bool]:
    """For guards: the subject has a grant that is active now, with a role and a reach as the limits say.

    A grant that is revoked at the same moment may still count once: its act is then the earlier of the two.
    """
    grant = AuthorityGrant
    return exists(select(grant.id).where(grant.tenant_id == tenant_id, grant.subject == subject, *active_now(), *limits))


def granted_roles(uow: UnitOfWork, subject: str, among: Collection[str]) -> frozenset[str]:
    """Those of these roles for which the subject has a grant that is active now."""
    query = select(GRANT.c.role).filter_by(tenant_id=uow.tenant_id, subject=subject)
    return frozenset(uow.connection.scalars(query.where(GRANT.c.role.in_(among), *active_now())))

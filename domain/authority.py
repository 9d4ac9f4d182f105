"""Who may sign how much: authority grants, and their delegation for the time of an absence.

A role says what somebody is, a grant how far that reaches: which region, products, discount and amount, and until when. A delegated grant
never reaches further than the one that it comes from, and ends with it (docs/decisions/0009-authority-is-granted-held-and-kept.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    ColumnElement,
    DateTime,
    Index,
    Numeric,
    Row,
    SQLColumnExpression,
    exists,
    false,
    func,
    select,
    text,
    true,
)
from sqlalchemy.orm import Mapped, mapped_column

from domain.errors import Conflict, Forbidden, Invalid, InvalidTransition, SafeAction
from domain.store import Aggregate, Base, Check, Guard, Matrix, Move, UnitOfWork, param, ref, table_of


class GrantStatus(StrEnum):
    ACTIVE = "ACTIVE"
    REVOKED = "REVOKED"


class GrantEvent(StrEnum):
    REVOKE = "REVOKE"
    END = "END"


GRANT_MATRIX = Matrix(
    GrantStatus,
    GrantEvent,
    moves={
        GrantEvent.REVOKE: {GrantStatus.ACTIVE: GrantStatus.REVOKED},
        GrantEvent.END: {GrantStatus.ACTIVE: GrantStatus.REVOKED},
    },
)


class GrantVersionConflict(Conflict):
    """The grant was changed after it was loaded."""


class AuthorityNotDelegable(Conflict):
    """Only a grant that is active, still valid and not delegated itself can be delegated."""

    safe_action = SafeAction.ASK_SOMEONE_WITH_AUTHORITY


class DelegationTooWide(Conflict):
    """A delegation must not reach further than the grant that it comes from."""

    safe_action = SafeAction.CORRECT_THE_REQUEST


class NotYourAuthority(Forbidden):
    """Only its holder delegates a grant; only an administrator or its delegator revokes it."""


class AuthorityGrant(Aggregate, Base):
    """How far a subject's signature reaches in one role. None as region, product family or amount: every one; as `valid_until`: until revoked.

    `max_discount_percent` is 0 to 100, `max_deal_amount` in the quote's currency. `delegated_by` is the holder of `delegated_from`.
    """

    ID_FIELD = "grant_id"
    __tablename__ = "authority_grant"
    __table_args__ = (
        GRANT_MATRIX.check_status(),
        ref("authority_grant", "delegated_from"),
        CheckConstraint("max_discount_percent BETWEEN 0 AND 100", name="discount"),
        CheckConstraint("valid_until > valid_from", name="validity"),
        CheckConstraint("(delegated_from IS NULL) = (delegated_by IS NULL)", name="delegation"),
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


GRANT = table_of(AuthorityGrant)

EXPECTED_VERSION = Guard(GrantVersionConflict, AuthorityGrant.version == param("expected_version"))

# Locked FOR SHARE until commit: a transaction that revokes the grant meanwhile waits, and then finds the delegation.
DELEGATE = Check(
    AuthorityGrant,
    "delegate",
    Guard(NotYourAuthority, AuthorityGrant.subject == param("delegated_by")),
    EXPECTED_VERSION,
    Guard(
        AuthorityNotDelegable,
        (AuthorityGrant.status == GrantStatus.ACTIVE)
        & AuthorityGrant.delegated_from.is_(None)
        & func.coalesce(AuthorityGrant.valid_until > func.clock_timestamp(), true()),
    ),
    Guard(
        DelegationTooWide,
        func.coalesce(AuthorityGrant.max_discount_percent >= param("max_discount_percent", Numeric(5, 2)), true())
        & func.coalesce(AuthorityGrant.max_deal_amount >= param("max_deal_amount", Numeric(14, 2)), true())
        & func.coalesce(AuthorityGrant.valid_until >= param("valid_until", DateTime(timezone=True)), true()),
    ),
)
REVOKE = Move(
    AuthorityGrant,
    GRANT_MATRIX,
    GrantEvent.REVOKE,
    Guard(
        NotYourAuthority,
        param("as_administrator", Boolean()) | func.coalesce(AuthorityGrant.delegated_by == param("revoked_by"), false()),
    ),
    EXPECTED_VERSION,
)
# A delegation ends with the grant that it comes from, at any version: nothing can make it valid again.
REVOKE_DELEGATION = Move(AuthorityGrant, GRANT_MATRIX, GrantEvent.END)


def is_granted(
    tenant_id: SQLColumnExpression[UUID], subject: ColumnElement[str], role: SQLColumnExpression[str], *limits: ColumnElement[bool]
) -> ColumnElement[bool]:
    """For guards: the subject has a grant for the role that is active now, and to which the limits apply."""
    grant, now = AuthorityGrant, func.clock_timestamp()
    return exists(
        select(grant.id).where(
            grant.tenant_id == tenant_id,
            grant.subject == subject,
            grant.role == role,
            grant.status == GrantStatus.ACTIVE,
            grant.valid_from <= now,
            func.coalesce(grant.valid_until > now, true()),
            *limits,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantAuthority:
    """Let somebody sign in a role. None: every region, every product family, any amount, from now on, until revoked."""

    subject: str
    role: str
    max_discount_percent: Decimal
    region: str | None = None
    product_family: str | None = None
    max_deal_amount: Decimal | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegateAuthority:
    """Let a colleague sign instead. None: as far as the grant itself, and from now on."""

    grant_id: UUID
    expected_version: int
    delegated_by: str
    subject: str
    valid_until: datetime
    max_discount_percent: Decimal | None = None
    max_deal_amount: Decimal | None = None
    valid_from: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeAuthority:
    """End a grant and its delegations. The delegator may end a delegation; only administrators may end any other grant."""

    grant_id: UUID
    expected_version: int
    revoked_by: str
    as_administrator: bool


def grant(uow: UnitOfWork, command: GrantAuthority) -> Row[Any]:
    """Grant authority. Raises Invalid when it would end before it begins."""
    names = ("subject", "role", "region", "product_family", "max_discount_percent", "max_deal_amount")
    return _open(uow, command.valid_from, command.valid_until, **{name: getattr(command, name) for name in names})


def delegate(uow: UnitOfWork, command: DelegateAuthority) -> Row[Any]:
    """Delegate authority, at most as far as the grant reaches. Raises the refusals of DELEGATE, Invalid."""
    own = uow.require(DELEGATE, command)
    limits = {
        "max_discount_percent": own.max_discount_percent if command.max_discount_percent is None else command.max_discount_percent,
        "max_deal_amount": own.max_deal_amount if command.max_deal_amount is None else command.max_deal_amount,
    }
    begins = max(command.valid_from or own.valid_from, own.valid_from)
    same = {name: getattr(own, name) for name in ("role", "region", "product_family")}
    source = {"delegated_from": own.id, "delegated_by": own.subject}
    return _open(uow, begins, command.valid_until, subject=command.subject, **same, **limits, **source)


def revoke(uow: UnitOfWork, command: RevokeAuthority) -> Row[Any]:
    """Revoke a grant and its delegations. Signatures that were given before stay. Raises the refusals of REVOKE."""
    revoked = uow.apply(REVOKE, command)
    delegated = select(GRANT.c.id).filter_by(tenant_id=uow.tenant_id, delegated_from=revoked.id, status=GrantStatus.ACTIVE)
    for row in uow.connection.execute(delegated.order_by(GRANT.c.id)).all():
        try:
            uow.apply(REVOKE_DELEGATION, grant_id=row.id)
        except InvalidTransition:
            continue  # the delegator has ended it meanwhile
    return revoked


def _open(uow: UnitOfWork, valid_from: datetime | None, valid_until: datetime | None, **values: Any) -> Row[Any]:
    begins = valid_from or uow.connection.execute(select(func.clock_timestamp())).scalar_one()
    if valid_until is not None and valid_until <= begins:
        raise Invalid("Authority ends after it begins: give a validUntil later than validFrom.")
    return uow.create(
        AuthorityGrant, reason="GRANT", status=GrantStatus.ACTIVE, valid_from=begins, valid_until=valid_until, **values
    )

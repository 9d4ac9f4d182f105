"""Granting authority: commands on grants. Nobody acts on their own, and a wide grant counts only after a second person has confirmed it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, DateTime, Numeric, Row, false, func, select, true

from domain.authority import (
    GRANT,
    GRANT_MATRIX,
    AuthorityGrant,
    GrantEvent,
    GrantStatus,
)
from domain.errors import Conflict, Forbidden, Invalid, InvalidTransition, SafeAction
from domain.store import Check, Guard, Move, UnitOfWork, param

ALONE_UP_TO_PERCENT, ALONE_UP_TO_AMOUNT = Decimal(25), Decimal(100_000)
"""How far one administrator may grant authority alone: a discount in percent, and an amount in the currency of the quote."""
WITHOUT_AMOUNT = frozenset({"falloutL1", "falloutL2", "falloutManagers"})
"""Roles whose authority is about no discount and no amount, so one administrator may grant it."""


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


class OwnAuthority(Forbidden):
    """Nobody grants, confirms or delegates authority to themselves."""


class SecondAdministratorMissing(Forbidden):
    """A grant that reaches so far needs a second administrator: you have proposed it yourself."""


EXPECTED_VERSION = Guard(GrantVersionConflict, AuthorityGrant.version == param("expected_version"))

# Locked FOR SHARE until commit: a transaction that revokes the grant meanwhile waits, and then finds the delegation.
DELEGATE = Check(
    AuthorityGrant,
    "delegate",
    Guard(NotYourAuthority, AuthorityGrant.subject == param("delegated_by")),
    Guard(OwnAuthority, AuthorityGrant.subject != param("subject")),
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
CONFIRM = Move(
    AuthorityGrant,
    GRANT_MATRIX,
    GrantEvent.CONFIRM,
    EXPECTED_VERSION,
    Guard(OwnAuthority, AuthorityGrant.subject != param("confirmed_by")),
    Guard(SecondAdministratorMissing, AuthorityGrant.granted_by != param("confirmed_by")),
    sets={AuthorityGrant.confirmed_by: param("confirmed_by")},
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


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantAuthority:
    """Let somebody act in a role. None: every region, every product family, any amount, from now on, until revoked.

    `max_discount_percent` is for approvers only.
    """

    subject: str
    role: str
    granted_by: str
    max_discount_percent: Decimal = Decimal(0)
    region: str | None = None
    product_family: str | None = None
    max_deal_amount: Decimal | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None

    @property
    def is_wide(self) -> bool:
        """Whether it reaches further than one administrator may grant."""
        is_unlimited = self.max_deal_amount is None or self.max_deal_amount > ALONE_UP_TO_AMOUNT
        return self.role not in WITHOUT_AMOUNT and (is_unlimited or self.max_discount_percent > ALONE_UP_TO_PERCENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmAuthority:
    """Let a wide grant count, as a second administrator who has seen it at this version."""

    grant_id: UUID
    expected_version: int
    confirmed_by: str


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
    """Grant authority; a wide grant is only PROPOSED. Raises OwnAuthority, and Invalid when it would end before it begins."""
    if command.granted_by == command.subject:
        raise OwnAuthority
    names = ("subject", "role", "region", "product_family", "max_discount_percent", "max_deal_amount", "granted_by")
    status = GrantStatus.PROPOSED if command.is_wide else GrantStatus.ACTIVE
    given = {name: getattr(command, name) for name in names}
    return _open(uow, command.valid_from, command.valid_until, status=status, **given)


def confirm(uow: UnitOfWork, command: ConfirmAuthority) -> Row[Any]:
    """Let a proposed grant count. Raises the refusals of CONFIRM."""
    return uow.apply(CONFIRM, command)


def delegate(uow: UnitOfWork, command: DelegateAuthority) -> Row[Any]:
    """Delegate authority, at most as far as the grant reaches. Raises the refusals of DELEGATE, Invalid."""
    own = uow.require(DELEGATE, command)
    limits = {
        "max_discount_percent": own.max_discount_percent if command.max_discount_percent is None else command.max_discount_percent,
        "max_deal_amount": own.max_deal_amount if command.max_deal_amount is None else command.max_deal_amount,
    }
    begins = max(command.valid_from or own.valid_from, own.valid_from)
    same = {name: getattr(own, name) for name in ("role", "region", "product_family")}
    source = {"delegated_from": own.id, "delegated_by": own.subject, "granted_by": own.subject}
    return _open(uow, begins, command.valid_until, subject=command.subject, status=GrantStatus.ACTIVE, **same, **limits, **source)


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
    return uow.create(AuthorityGrant, reason="GRANT", valid_from=begins, valid_until=valid_until, **values)

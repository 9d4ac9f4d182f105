"""Grants of authority, given by two administrators."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from domain import granting
from domain.authority import GrantStatus
from domain.store import UnitOfWork

ADMINISTRATORS = ("admin", "second admin")


def granted(uow: UnitOfWork, subject: str, role: str, limits: dict[str, Any]) -> Row[Any]:
    """Grant authority, and let the second administrator confirm it where the product asks for that."""
    first, second = ADMINISTRATORS
    grant = granting.grant(uow, granting.GrantAuthority(subject=subject, role=role, granted_by=first, **limits))
    if grant.status == GrantStatus.ACTIVE:
        return grant
    confirmation = granting.ConfirmAuthority(grant_id=grant.id, expected_version=grant.version, confirmed_by=second)
    return granting.confirm(uow, confirmation)

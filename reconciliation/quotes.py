"""Expires quotes after their `valid_until`, so that nobody works on an offer that cannot be accepted any more.

An acceptance does not depend on this sweep: its guard refuses from `valid_until` on, whenever the quote is marked as expired.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.offers import quotes, withdrawing
from domain.store import UnitOfWork
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.rounds import Leased


class Quotes:
    """Finds every quote that is past its end and not final."""

    kind = "quote"

    def __init__(self, database: Database, repairs: Repairs) -> None:
        self._found = Leased(database, self.kind, dry_run=repairs.dry_run)
        self._repairs = repairs

    def sweep(self) -> int:
        """Expire every such quote; returns how many were expired."""
        return self._found.each(withdrawing.expired_quotes, lambda row: self._repairs.make(_repair(row), partial(_expire, row)))


def _expire(row: Row[Any], uow: UnitOfWork) -> bool:
    return bool(withdrawing.expire(uow, withdrawing.ExpireQuote(quote_id=row.id, expected_version=row.version)))


def _repair(row: Row[Any]) -> Repair:
    return Repair(
        kind=Quotes.kind,
        tenant_id=row.tenant_id,
        aggregate_type="quote",
        aggregate_id=row.id,
        business_key=quotes.business_key(row.tenant_id, row.id, row.current_revision_id),
        action=Action.EXPIRED,
        evidence={"quoteStatus": row.status, "version": row.version, "validUntil": row.valid_until},
    )

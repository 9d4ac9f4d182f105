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
from domain.store.unit_of_work import housekeeping
from reconciliation.alone import alone
from reconciliation.repairs import Action, Repair, Repairs

LIMIT = 200  # quotes expired per sweep


class Quotes:
    """Finds every quote that is past its end and not final."""

    kind = "quote"

    def __init__(self, database: Database, repairs: Repairs) -> None:
        self._database = database
        self._repairs = repairs

    def sweep(self) -> int:
        """Expire every such quote; returns how many were expired."""
        with housekeeping(self._database) as connection:
            rows = withdrawing.expired_quotes(connection, LIMIT)
        return sum(alone(self.kind, self._settle, row) for row in rows)

    def _settle(self, row: Row[Any]) -> bool:
        return self._repairs.make(_repair(row), partial(_expire, row))


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

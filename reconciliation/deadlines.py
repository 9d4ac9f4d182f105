"""Orders whose promised time is over, and jeopardy alerts that are over: the first get a case, the second are cleared."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import jeopardy, orders
from domain.store import UnitOfWork
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.rounds import Leased, budget_ends


class Deadlines:
    """A late order gets one case, ever: the promise cannot be broken twice."""

    kind = jeopardy.LATE

    def __init__(self, database: Database, repairs: Repairs) -> None:
        self._late = Leased(database, self.kind, dry_run=repairs.dry_run)
        self._over = Leased(database, jeopardy.OVER, dry_run=repairs.dry_run)
        self._repairs = repairs

    def sweep(self) -> int:
        """Open the cases of late orders, and clear the alerts of orders that have ended; returns how many of both."""
        until = budget_ends()
        return self._late.each(jeopardy.late_orders, self._open, until) + self._over.each(jeopardy.over, self._clear, until)

    def _open(self, row: Row[Any]) -> bool:
        return self._repairs.make(_repair_of_order(row), partial(_report, row))

    def _clear(self, row: Row[Any]) -> bool:
        return self._repairs.make(_repair_of_alert(row), partial(_clear, row.order_id))


def _report(row: Row[Any], uow: UnitOfWork) -> bool:
    return jeopardy.report_late(uow, row.id, row.promised)


def _clear(order_id: UUID, uow: UnitOfWork) -> bool:
    return jeopardy.clear_over(uow, order_id) > 0


def _repair_of_order(row: Row[Any]) -> Repair:
    return _repair(row.tenant_id, row.id, Action.CASE_OPENED, promised=row.promised, orderStatus=row.status)


def _repair_of_alert(row: Row[Any]) -> Repair:
    return _repair(row.tenant_id, row.order_id, Action.CLEARED, level=row.level, raisedAt=row.updated_at)


def _repair(tenant_id: UUID, order_id: UUID, action: Action, **evidence: Any) -> Repair:
    return Repair(
        kind=Deadlines.kind,
        tenant_id=tenant_id,
        aggregate_type="sales_order",
        aggregate_id=order_id,
        business_key=orders.business_key(tenant_id, order_id),
        action=action,
        evidence=evidence,
    )

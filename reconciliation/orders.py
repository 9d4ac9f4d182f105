"""Evaluates orders that were not evaluated after a change of their steps: a process died between the two transactions, or did not get a lock."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import evaluating, orders, unsettled
from domain.delivery.orders import SalesOrder
from domain.store import UnitOfWork
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.rounds import Leased


class Orders:
    """`grace`: how long the normal path may take from a step's outcome to the evaluation of its order."""

    kind = "order"

    def __init__(self, database: Database, repairs: Repairs, grace: timedelta) -> None:
        self._found = Leased(database, self.kind, dry_run=repairs.dry_run)
        self._repairs = repairs
        self._grace = grace

    def sweep(self) -> int:
        """Evaluate every such order; returns how many were evaluated."""
        return self._found.each(
            partial(unsettled.unevaluated_orders, grace=self._grace),
            lambda row: self._repairs.make(_repair(row), partial(_evaluate, row)),
        )


def _evaluate(row: Row[Any], uow: UnitOfWork) -> bool:
    # Locked, so that an evaluation that is faster is seen.
    uow.read(SalesOrder, row.id, lock=True)
    if not unsettled.needs_evaluation(uow.connection, row.tenant_id, row.id):
        return False
    evaluating.evaluate(uow, row.id)
    return not unsettled.needs_evaluation(uow.connection, row.tenant_id, row.id)


def _repair(row: Row[Any]) -> Repair:
    return Repair(
        kind=Orders.kind,
        tenant_id=row.tenant_id,
        aggregate_type="sales_order",
        aggregate_id=row.id,
        business_key=orders.business_key(row.tenant_id, row.id),
        action=Action.EVALUATED,
        evidence={"orderStatus": row.status, "version": row.version},
    )

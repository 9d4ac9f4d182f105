"""Rebuilds rows of projections (R10): those that have skipped a version for too long, and those that show less than the authority.

An event may be lost before the inbox: Kafka keeps it for a limited time only, and an operator may skip a message. The next event of its
aggregate shows the gap, which is noted in the row. When there is no next event, the order of the last changes shows it: every change is
looked at once, when it is old enough.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain import rebuilding
from domain.projections.tables import Projection
from domain.rebuilding import Place, Stale
from domain.store import UnitOfWork
from domain.store.unit_of_work import housekeeping
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.rounds import Leased, budget_ends
from reconciliation.walks import Kept

LIMIT = 500  # rows that one statement reads
# After its start a reconciler looks at every row, the oldest change first. So many statements a sweep leave time for other sweeps.
PAGES = 10
AGGREGATES = {
    Projection.QUOTES: "quote",
    Projection.ORDERS: "sales_order",
    Projection.DECISIONS: "approval_decision",
}


class Projections:
    """`limit`: how long the inbox may take for an event, before its row is rebuilt from the authority."""

    kind = rebuilding.KIND

    def __init__(self, database: Database, repairs: Repairs, limit: timedelta) -> None:
        self._database = database
        self._repairs = repairs
        self._limit = limit
        self._places: dict[Projection, Place | None] = dict.fromkeys(Projection)
        self._gaps = Leased(database, self.kind, dry_run=repairs.dry_run)
        self._behind = {projection: Kept(self.kind, partial(self._rebuild, projection)) for projection in Projection}

    def sweep(self) -> int:
        """Rebuild every such row once; returns how many were rebuilt."""
        until = budget_ends()
        return sum(self._look_at(projection, until) for projection in Projection)

    def _look_at(self, projection: Projection, until: float) -> int:
        gaps = partial(rebuilding.gaps, projection=projection, older_than=self._limit)
        rebuilt = self._gaps.each(gaps, partial(self._rebuild_row, projection), until)
        self._walk(projection)
        return rebuilt + self._behind[projection].settle(until)

    def _walk(self, projection: Projection) -> None:
        for _ in range(PAGES):
            with housekeeping(self._database) as connection:
                stale, place = rebuilding.behind(connection, projection, self._places[projection], LIMIT, self._limit)
            if place is None:
                return
            self._behind[projection].add(stale)
            self._places[projection] = place

    def _rebuild_row(self, projection: Projection, row: Row[Any]) -> bool:
        return self._rebuild(projection, rebuilding.as_stale(projection, row))

    def _rebuild(self, projection: Projection, stale: Stale) -> bool:
        return self._repairs.make(_repair(projection, stale), partial(_rebuild, projection, stale))


def _rebuild(projection: Projection, stale: Stale, uow: UnitOfWork) -> bool:
    return rebuilding.rebuild_row(uow, projection, stale.id)


def _repair(projection: Projection, stale: Stale) -> Repair:
    return Repair(
        kind=Projections.kind,
        tenant_id=stale.tenant_id,
        aggregate_type=AGGREGATES[projection],
        aggregate_id=stale.id,
        business_key=stale.business_key,
        action=Action.REBUILT,
        evidence={
            "projection": projection,
            "version": stale.version,
            "shownVersion": stale.shown,
            "missingVersions": stale.missing,
        },
    )

"""Aggregates without the row that was written in their own transaction: should be impossible, so it is an alarm for a person.

Nothing is repaired: whoever has changed the database by hand has to say what it should be.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import orphans
from domain.delivery.orphans import Orphan, Place
from domain.findings import FindingStatus
from domain.store.unit_of_work import housekeeping
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.rounds import Leased, budget_ends
from reconciliation.walks import Kept

ACCEPTED = 1000  # accepted quotes looked at per sweep

_log = structlog.get_logger()


class Orphans:
    """`grace`: longer than any transaction may take. Accepted quotes are looked at once, in the order of their acceptance."""

    kind = orphans.KIND

    def __init__(self, database: Database, repairs: Repairs, grace: timedelta) -> None:
        self._database = database
        self._repairs = repairs
        self._grace = grace
        self._seen: Place | None = None
        self._found = Leased(database, self.kind, dry_run=repairs.dry_run)
        self._accepted = Kept(self.kind, self._raise_alarm)

    def sweep(self) -> int:
        """Report every orphan; returns how many were reported."""
        until = budget_ends()
        reported = self._found.each(partial(orphans.without_process, grace=self._grace), self._report, until)
        with housekeeping(self._database) as connection:
            accepted, self._seen = orphans.accepted_since(connection, self._seen, ACCEPTED, self._grace)
        self._accepted.add(accepted)
        return reported + self._accepted.settle(until)

    def _report(self, row: Row[Any]) -> bool:
        return self._raise_alarm(orphans.as_orphan(row))

    def _raise_alarm(self, orphan: Orphan) -> bool:
        _log.error("impossible_state", aggregateType=orphan.aggregate_type, aggregateId=orphan.id, lacks=orphan.lacks)
        repair = Repair(
            kind=self.kind,
            tenant_id=orphan.tenant_id,
            aggregate_type=orphan.aggregate_type,
            aggregate_id=orphan.id,
            business_key=f"{orphan.aggregate_type}:{orphan.id}",
            action=Action.CASE_OPENED,
            evidence={"lacks": orphan.lacks},
            status=FindingStatus.OPEN,
        )
        return self._repairs.make(repair, partial(orphans.report, orphan=orphan))

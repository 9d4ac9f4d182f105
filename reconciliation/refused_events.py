"""Opens a case for every aggregate with an event that Kafka has refused for too long (domain/retry_rules.py, EVENT_REFUSED)."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import troubles
from domain.fallout import triaging
from domain.store import UnitOfWork
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.rounds import Leased


class RefusedEvents:
    """Leaves refused events to a person, who lets them be sent again once the cause is removed."""

    kind = "refused-event"

    def __init__(self, database: Database, repairs: Repairs) -> None:
        self._events = Leased(database, self.kind, dry_run=repairs.dry_run)
        self._repairs = repairs

    def sweep(self) -> int:
        """Open the missing cases; returns how many were opened."""
        return self._events.each(
            troubles.refused_without_case, lambda event: self._repairs.make(_repair(event), partial(_open, event))
        )


def _open(event: Row[Any], uow: UnitOfWork) -> bool:
    return triaging.open_once(uow, troubles.of_refused_event(event))


def _repair(event: Row[Any]) -> Repair:
    return Repair(
        kind=RefusedEvents.kind,
        tenant_id=event.tenant_id,
        aggregate_type=event.aggregate_type,
        aggregate_id=event.aggregate_id,
        business_key=event.business_key or "",
        action=Action.CASE_OPENED,
        evidence={"eventId": event.id, "eventType": event.event_type, "reason": event.last_reason},
    )

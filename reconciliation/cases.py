"""Releases abandoned fallout cases, and opens a case for every held step that has none."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import troubles, unsettled
from domain.delivery.steps import FulfillmentStep, StepStatus
from domain.fallout import casework, triaging
from domain.store import UnitOfWork
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.rounds import Leased, budget_ends


class Cases:
    """`grace`: how long the process of a held step may take to open its case."""

    kind = "case"

    def __init__(self, database: Database, repairs: Repairs, grace: timedelta) -> None:
        self._claimed = Leased(database, self.kind, dry_run=repairs.dry_run)
        self._held = Leased(database, "held step", dry_run=repairs.dry_run)
        self._repairs = repairs
        self._grace = grace

    def sweep(self) -> int:
        """Release cases whose claim has expired, and open the missing ones; returns how many cases were changed or opened."""
        until = budget_ends()
        released = self._claimed.each(
            casework.expired_claims, lambda row: self._repairs.make(_repair_of_case(row), partial(_release, row)), until
        )
        return released + self._held.each(
            partial(unsettled.held_without_case, grace=self._grace),
            lambda row: self._repairs.make(_repair_of_step(row), partial(_open, row)),
            until,
        )


def _release(row: Row[Any], uow: UnitOfWork) -> bool:
    casework.expire_claim(uow, row.id, row.version)
    return True


def _open(row: Row[Any], uow: UnitOfWork) -> bool:
    step = uow.read(FulfillmentStep, row.id, lock=True)
    if (step.status, step.version) != (StepStatus.HELD, row.version):
        return False
    return triaging.open_once(uow, troubles.of_held_step(step))


def _repair_of_case(row: Row[Any]) -> Repair:
    evidence = {"owner": row.owner_user_id, "claimExpiredAt": row.claim_expires_at}
    return Repair.of_case(Cases.kind, Action.RELEASED, row.tenant_id, row.id, evidence)


def _repair_of_step(row: Row[Any]) -> Repair:
    evidence = {"stepStatus": row.status, "version": row.version, "heldSince": row.updated_at}
    return Repair.of_step(Cases.kind, Action.CASE_OPENED, row.tenant_id, row.id, evidence)

"""Fallout cases that nobody is at any more, and steps that wait for a person whom nobody called (the lesson, section 13)."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import steps, troubles, unsettled
from domain.delivery.steps import FulfillmentStep, StepStatus
from domain.fallout import cases, casework, triaging
from domain.store import UnitOfWork
from domain.store.unit_of_work import housekeeping
from reconciliation.repairs import Action, Repair, Repairs

LIMIT = 200  # cases given back, and opened, per sweep


class Cases:
    """`grace`: how long the process of a held step may take to open its case."""

    kind = "case"

    def __init__(self, database: Database, repairs: Repairs, grace: timedelta) -> None:
        self._database = database
        self._repairs = repairs
        self._grace = grace

    def sweep(self) -> int:
        """Give back what an owner has left, and call a person to what is held; returns how many cases were."""
        with housekeeping(self._database) as connection:
            left = casework.expired_claims(connection, LIMIT)
            held = unsettled.held_without_case(connection, LIMIT, self._grace)
        released = sum(self._repairs.make(_release(row), partial(_give_back, row)) for row in left)
        return released + sum(self._repairs.make(_opening(row), partial(_open, row)) for row in held)


def _give_back(row: Row[Any], uow: UnitOfWork) -> bool:
    casework.expire_claim(uow, row.id, row.version)
    return True


def _open(row: Row[Any], uow: UnitOfWork) -> bool:
    step = uow.read(FulfillmentStep, row.id, lock=True)
    if (step.status, step.version) != (StepStatus.HELD, row.version):
        return False
    triaging.open_case(uow, troubles.of_held_step(step))
    return True


def _release(row: Row[Any]) -> Repair:
    return Repair(
        kind=Cases.kind,
        tenant_id=row.tenant_id,
        aggregate_type="fallout_case",
        aggregate_id=row.id,
        business_key=cases.business_key(row.tenant_id, row.id),
        action=Action.RELEASED,
        evidence={"owner": row.owner_user_id, "claimExpiredAt": row.claim_expires_at},
    )


def _opening(row: Row[Any]) -> Repair:
    return Repair(
        kind=Cases.kind,
        tenant_id=row.tenant_id,
        aggregate_type="fulfillment_step",
        aggregate_id=row.id,
        business_key=steps.business_key(row.tenant_id, row.id),
        action=Action.CASE_OPENED,
        evidence={"stepStatus": row.status, "version": row.version, "heldSince": row.updated_at},
    )

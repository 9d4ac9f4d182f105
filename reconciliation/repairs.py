"""How every repair is made: by a command of the domain with its own preconditions, together with the finding that explains it.

The rule it keeps: a repair loses to whatever settled the matter first. A lost repair is counted and has no other effect. A dry run
changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

import structlog
from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain import findings
from domain.delivery import steps
from domain.errors import Conflict, Refusal
from domain.fallout import cases
from domain.findings import FindingStatus
from domain.store import Cause, UnitOfWork
from workers.runtime.commands import trial, unit_of_work
from workers.runtime.evaluation import then_evaluate
from workers.runtime.metrics import RECONCILIATION_ACTIONS

LOST = "lost_to_callback"

_log = structlog.get_logger()


class Action(StrEnum):
    """What a sweep does; the metric's `result`."""

    TIMED_OUT = "timed_out"
    ATTACHED = "attached"
    STARTED_AGAIN = "started_again"
    COMPLETED = "completed"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    ABSENT = "absent"
    EVALUATED = "evaluated"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    GIVEN_UP = "given_up"
    ANSWERED = "answered"
    RELEASED = "released"
    CASE_OPENED = "case_opened"
    CLAIMED = "claimed"
    ASSIGNED = "assigned"
    REBUILT = "rebuilt"
    ENDED = "ended"
    LOST = "lost"
    TERMINATED = "terminated"
    LEFT = "left"
    CASE_CLOSED = "case_closed"
    CASE_REOPENED = "case_reopened"
    TOLD_AGAIN = "told_again"
    MATCHED = "matched"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One disagreement and what a sweep does about it. `kind` is that of the sweep that found it; OPEN: a person has to look at it.

    `business_key` None: it is about something that acts for nobody.
    """

    kind: str
    tenant_id: UUID
    aggregate_type: str
    aggregate_id: UUID
    business_key: str | None
    action: Action
    evidence: Mapping[str, Any] = field(default_factory=dict)
    status: FindingStatus = FindingStatus.REPAIRED

    @classmethod
    def of_step(cls, kind: str, action: Action, tenant_id: UUID, step_id: UUID, evidence: Mapping[str, Any]) -> Self:
        """The repair of a fulfilment step."""
        return cls(
            kind=kind,
            tenant_id=tenant_id,
            aggregate_type="fulfillment_step",
            aggregate_id=step_id,
            business_key=steps.business_key(tenant_id, step_id),
            action=action,
            evidence=evidence,
        )

    @classmethod
    def of_case(cls, kind: str, action: Action, tenant_id: UUID, case_id: UUID, evidence: Mapping[str, Any]) -> Self:
        """The repair of a fallout case."""
        return cls(
            kind=kind,
            tenant_id=tenant_id,
            aggregate_type="fallout_case",
            aggregate_id=case_id,
            business_key=cases.business_key(tenant_id, case_id),
            action=action,
            evidence=evidence,
        )

    @classmethod
    def of_process(cls, kind: str, action: Action, row: Row[Any], evidence: Mapping[str, Any]) -> Self:
        """The repair of the process of a business key; `row` is its correlation."""
        return cls(
            kind=kind,
            tenant_id=row.tenant_id,
            aggregate_type="workflow_correlation",
            aggregate_id=row.id,
            business_key=row.business_key,
            action=action,
            evidence=evidence,
        )


class Repairs:
    """Carries repairs out, or only logs them (`dry_run`)."""

    def __init__(self, database: Database, *, dry_run: bool) -> None:
        self._database = database
        self.dry_run = dry_run

    def make(self, repair: Repair, command: Callable[[UnitOfWork], bool]) -> bool:
        """Carry `command` out together with its finding; True when it changed something (in a dry run: would change something).

        `command` returns False, or raises a Conflict, when the matter was settled meanwhile.
        """
        facts = {
            "kind": repair.kind,
            "action": repair.action.value,
            "tenantId": repair.tenant_id,
            "businessKey": repair.business_key,
        }
        if self.dry_run:
            would_act = self._would(repair, command)
            if would_act:
                _log.info("reconciliation_would_act", **facts, evidence=dict(repair.evidence))
            return would_act
        is_done = self._try(repair, command)
        RECONCILIATION_ACTIONS.labels(kind=repair.kind, result=repair.action.value if is_done else LOST).inc()
        if is_done:
            _log.info("reconciliation_acted", **facts, evidence=dict(repair.evidence))
        return is_done

    def make_and_evaluate(self, repair: Repair, command: Callable[[UnitOfWork], bool], order_id: UUID) -> bool:
        """Make the repair of a step, then evaluate its order; an evaluation that loses to another one is left to it."""
        is_changed = self.make(repair, command)
        if is_changed and not self.dry_run:
            then_evaluate(self._carry_out, _cause(repair), order_id, left_to_others=Refusal)
        return is_changed

    def _would(self, repair: Repair, command: Callable[[UnitOfWork], bool]) -> bool:
        """Whether a repair would change something: it is tried, and taken back."""
        is_done = False
        with trial(self._database, _cause(repair)) as uow, suppress(Conflict):
            is_done = command(uow)
        return is_done

    def _try(self, repair: Repair, command: Callable[[UnitOfWork], bool]) -> bool:
        try:
            with unit_of_work(self._database, _cause(repair)) as uow:
                is_done = command(uow)
                if is_done:
                    _record_finding(uow, repair)
                return is_done
        except Conflict as conflict:
            _log.info("reconciliation_lost", kind=repair.kind, businessKey=repair.business_key, conflictCode=conflict.code)
            return False

    def _carry_out(self, cause: Cause, command: Callable[[UnitOfWork], object]) -> None:
        with unit_of_work(self._database, cause) as uow:
            command(uow)


def _cause(repair: Repair) -> Cause:
    return Cause(
        tenant_id=repair.tenant_id,
        actor="reconciliation",
        command=f"reconcile-{repair.kind}",
        business_key=repair.business_key,
    )


def _record_finding(uow: UnitOfWork, repair: Repair) -> None:
    findings.record(
        uow,
        kind=repair.kind,
        aggregate_type=repair.aggregate_type,
        aggregate_id=repair.aggregate_id,
        evidence=repair.evidence,
        action=repair.action,
        status=repair.status,
    )

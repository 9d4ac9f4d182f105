"""How every repair is made: by a command of the domain with its own preconditions, together with the finding that explains it.

The rule it keeps: a repair loses to whatever settled the matter first. Losing is counted and nothing else. A dry run changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Engine as Database

from domain import findings
from domain.errors import Conflict
from domain.store import Cause, UnitOfWork, unit_of_work
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One disagreement and what is to be done about it. `kind` is that of the sweep that found it."""

    kind: str
    tenant_id: UUID
    aggregate_type: str
    aggregate_id: UUID
    business_key: str
    action: Action
    evidence: Mapping[str, Any] = field(default_factory=dict)


class Repairs:
    """Carries repairs out, or only names them (`dry_run`)."""

    def __init__(self, database: Database, *, dry_run: bool) -> None:
        self._database = database
        self.dry_run = dry_run

    def make(self, repair: Repair, act: Callable[[UnitOfWork], bool]) -> bool:
        """Let `act` change what it finds unchanged; True when it did (in a dry run: would be tried).

        `act` returns False, or raises a Conflict, when the matter was settled meanwhile.
        """
        facts = {
            "kind": repair.kind,
            "action": repair.action.value,
            "tenantId": repair.tenant_id,
            "businessKey": repair.business_key,
        }
        if self.dry_run:
            _log.info("reconciliation_would_act", **facts, evidence=dict(repair.evidence))
            return True
        is_done = self._attempt(repair, act)
        RECONCILIATION_ACTIONS.labels(kind=repair.kind, result=repair.action.value if is_done else LOST).inc()
        if is_done:
            _log.info("reconciliation_acted", **facts, evidence=dict(repair.evidence))
        return is_done

    def unit_of_work(self, repair: Repair) -> AbstractContextManager[UnitOfWork]:
        """The transaction of one command of this repair."""
        cause = Cause(
            tenant_id=repair.tenant_id,
            actor="reconciliation",
            command=f"reconcile-{repair.kind}",
            business_key=repair.business_key,
        )
        return unit_of_work(self._database, cause)

    def _attempt(self, repair: Repair, act: Callable[[UnitOfWork], bool]) -> bool:
        try:
            with self.unit_of_work(repair) as uow:
                is_done = act(uow)
                if is_done:
                    _note(uow, repair)
                return is_done
        except Conflict as conflict:
            _log.info("reconciliation_lost", kind=repair.kind, businessKey=repair.business_key, conflictCode=conflict.code)
            return False


def _note(uow: UnitOfWork, repair: Repair) -> None:
    findings.record(
        uow,
        kind=repair.kind,
        aggregate_type=repair.aggregate_type,
        aggregate_id=repair.aggregate_id,
        evidence=repair.evidence,
        action=repair.action,
    )

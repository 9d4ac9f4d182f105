"""Incidents of the engine: each gets a case, and the case of a process is closed when its trouble is over (docs/domain.md#reconcilers).

The rule it keeps: the cases are read before the engine is asked. So an incident that is still there was there after a person's RETRY, and one
that is gone was gone at that version of the case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import incidents
from domain.delivery.incidents import FailedTask, Trouble
from domain.delivery.resolving import Resolution
from domain.fallout.cases import FalloutStatus
from domain.store import Cause, UnitOfWork
from domain.store.unit_of_work import housekeeping
from domain.workflows.keys import BusinessKey, key_in
from reconciliation.alone import alone
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.rounds import in_time
from reconciliation.walks import PAGE, Walk
from workers.runtime.commands import unit_of_work
from workers.runtime.engine import Engine
from workers.runtime.engine_history import EngineInstance, Incident
from workers.runtime.set_aside import isolated

NIL = UUID(int=0)

_log = structlog.get_logger()


class Incidents:
    """`grace`: how long a resolved case waits before it is closed: a task that is tried again may fail again."""

    kind = "incident"

    def __init__(self, database: Database, engine: Engine, repairs: Repairs, grace: timedelta) -> None:
        self._database = database
        self._engine = engine
        self._repairs = repairs
        self._grace = grace
        self._walk = Walk()
        self._last_case = NIL
        self._reported: set[str] = set()

    def sweep(self) -> int:
        """Open the missing cases of one page of incidents, and look at one page of cases; returns what changed. Raises EngineError."""
        return self._look_at_cases() + self._open_cases()

    def _open_cases(self) -> int:
        found, is_last = self._engine.incidents_from(self._walk.first, PAGE)
        self._walk.first = 0 if is_last else self._walk.first + PAGE
        where = self._engine.instances_by_id({one.process_instance_id for one in found})
        failed = [each for one in found if (each := _failed_task(one, where.get(one.process_instance_id))) is not None]
        by_trouble = {(key.tenant_id, _dedupe_key(task)): (key, task) for key, task in failed}
        with housekeeping(self._database) as connection:
            known = incidents.with_case(connection, by_trouble)
        missing = [each for (_, name), each in by_trouble.items() if name not in known]
        return sum(self._open(key, task) for key, task in missing if task.process_instance_id not in self._reported)

    def _open(self, key: BusinessKey, task: FailedTask) -> bool:
        with isolated("reconcile", self.kind, businessKey=task.business_key):
            return self._repairs.make(_repair_of_task(key, Action.CASE_OPENED, task), lambda uow: self._open_or_report(uow, task))
        return False

    def _open_or_report(self, uow: UnitOfWork, task: FailedTask) -> bool:
        if incidents.may_have_case(uow, task):
            return incidents.open_case_of(uow, task)
        self._reported.add(task.process_instance_id)
        _log.error("process_of_a_case_has_failed", businessKey=task.business_key, reason=task.message, hint="see it in Cockpit")
        return False

    def _look_at_cases(self) -> int:
        with housekeeping(self._database) as connection:
            rows = incidents.cases_after(connection, self._last_case, PAGE)
        changed = sum(alone(self.kind, self._look_at, row) for row in self._going_on(rows) if not row.is_being_retried)
        if not rows or (len(rows) < PAGE and self._last_case == rows[-1].id):
            self._last_case = NIL
        return changed

    def _going_on(self, rows: Sequence[Row[Any]]) -> Iterator[Row[Any]]:
        for row in in_time(rows):
            self._last_case = row.id
            yield row

    def _look_at(self, row: Row[Any]) -> bool:
        is_left_in_peace = row.status == FalloutStatus.RESOLVED and row.age < self._grace
        if is_left_in_peace:
            return False
        if row.evidence["trouble"] == Trouble.INSTANCE_LOST:
            return self._is_over(row) and self._make(row, Action.CASE_CLOSED, lambda uow: _close(uow, row))
        found = self._engine.incidents_at(row.evidence["processInstanceId"], row.evidence["activityId"])
        if not found:
            return self._make(row, Action.CASE_CLOSED, lambda uow: _close(uow, row))
        if row.status == FalloutStatus.RESOLVED and row.resolution == Resolution.RETRY:
            return self._reopen(row, found)
        return False

    def _is_over(self, row: Row[Any]) -> bool:
        cause = Cause(tenant_id=row.tenant_id, actor="reconciliation", command="look-at-case")
        with unit_of_work(self._database, cause) as uow:
            return incidents.is_over(uow, row)

    def _reopen(self, row: Row[Any], found: Sequence[Incident]) -> bool:
        names = ("businessKey", "processInstanceId", "activityId")
        business_key, instance_id, activity_id = (row.evidence[name] for name in names)
        task = _as_task(found[-1], business_key, instance_id, activity_id)
        return self._make(row, Action.CASE_REOPENED, lambda uow: incidents.reopen(uow, row.id, row.version, task))

    def _make(self, row: Row[Any], action: Action, command: Callable[[UnitOfWork], bool]) -> bool:
        evidence = {
            "caseStatus": row.status,
            **{name: row.evidence.get(name) for name in ("trouble", "processInstanceId", "activityId")},
        }
        return self._repairs.make(Repair.of_case(self.kind, action, row.tenant_id, row.id, evidence), command)


def _close(uow: UnitOfWork, row: Row[Any]) -> bool:
    return incidents.close(uow, row.id, row.version)


def _failed_task(one: Incident, instance: EngineInstance | None) -> tuple[BusinessKey, FailedTask] | None:
    """The incident of one of our processes; None for those of others."""
    key = key_in(instance.business_key) if instance is not None else None
    if instance is None or key is None or instance.tenant_id != str(key.tenant_id):
        return None
    return key, _as_task(one, instance.business_key, one.process_instance_id, one.activity_id)


def _as_task(one: Incident, business_key: str, process_instance_id: str, activity_id: str) -> FailedTask:
    return FailedTask(
        business_key=business_key,
        process_instance_id=process_instance_id,
        activity_id=activity_id,
        incident_id=one.id,
        incident_type=one.type,
        message=one.message,
    )


def _dedupe_key(task: FailedTask) -> str:
    return incidents.key_of_failed_task(task.process_instance_id, task.activity_id)


def _repair_of_task(key: BusinessKey, action: Action, task: FailedTask) -> Repair:
    return Repair(
        kind=Incidents.kind,
        tenant_id=key.tenant_id,
        aggregate_type="process_instance",
        aggregate_id=key.id,
        business_key=task.business_key,
        action=action,
        evidence={name: getattr(task, name) for name in FailedTask.__dataclass_fields__},
    )

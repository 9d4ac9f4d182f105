"""Incidents of the engine: each gets a case, and the case of a process is closed when its trouble is over (docs/domain.md#reconcilers).

The rule it keeps: the cases are read before the engine is asked. So an incident that is still there was there after a person's RETRY, and one
that is gone was gone at that version of the case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import structlog
from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain import findings
from domain.delivery import incidents
from domain.delivery.incidents import FailedTask, Trouble
from domain.delivery.resolving import Resolution
from domain.fallout.cases import FalloutCase, FalloutStatus
from domain.findings import FindingStatus
from domain.store import Cause, UnitOfWork
from domain.store.unit_of_work import housekeeping
from domain.workflows.keys import BusinessKey, key_in
from reconciliation.alone import alone
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.rounds import budget_ends, in_time
from reconciliation.walks import PAGE, Walk
from workers.runtime.commands import unit_of_work
from workers.runtime.engine import Engine
from workers.runtime.engine_history import EngineInstance, Incident

NIL = UUID(int=0)

_log = structlog.get_logger()


class _Found(NamedTuple):
    """A failed task of one of our processes; the log names its first three members."""

    business_key: str
    process_instance_id: str
    activity_id: str
    key: BusinessKey
    task: FailedTask

    @property
    def trouble(self) -> tuple[UUID, str]:
        """The tenant, and the key of the trouble."""
        return self.key.tenant_id, incidents.key_of_failed_task(self.process_instance_id, self.activity_id)


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

    def sweep(self) -> int:
        """Open the missing cases of one page of incidents, and look at one page of cases; returns what changed. Raises EngineError."""
        until = budget_ends()
        return self._look_at_cases(until) + self._open_cases(until)

    def _open_cases(self, until: float) -> int:
        page = self._engine.incidents_from(self._walk.first, PAGE)
        where = self._engine.instances_by_id({one.process_instance_id for one in page})
        failed = {one.id: each for one in page if (each := _failed_task(one, where.get(one.process_instance_id))) is not None}
        by_trouble = {each.trouble: one_id for one_id, each in failed.items()}  # one for each trouble
        with housekeeping(self._database) as connection:
            known = incidents.with_case(connection, by_trouble)
            recorded = findings.recorded_of(connection, self.kind, {(each.key.tenant_id, each.key.id) for each in failed.values()})
        missing = {one_id: failed[one_id] for (_, name), one_id in by_trouble.items() if name not in known}
        found = (missing[one.id] for one in self._walk.through(page, until) if one.id in missing)
        left = {instance_id for instance_id, actions in recorded.items() if Action.LEFT in actions}
        return sum(alone(self.kind, self._open, each) for each in found if each.process_instance_id not in left)

    def _open(self, found: _Found) -> bool:
        repair = _repair_of_task(found, Action.CASE_OPENED)
        with unit_of_work(self._database, _looking(found.key.tenant_id)) as uow:
            may_have_case = incidents.may_have_case(uow, found.task)
        if may_have_case:
            return self._repairs.make(repair, lambda uow: incidents.open_case_of(uow, found.task))
        _log.error(
            "process_of_a_case_has_failed", businessKey=found.business_key, reason=found.task.message, hint="see it in Cockpit"
        )
        left = replace(repair, action=Action.LEFT, status=FindingStatus.OPEN)
        return self._repairs.make(left, lambda uow: _is_not_left_yet(uow, found))

    def _look_at_cases(self, until: float) -> int:
        with housekeeping(self._database) as connection:
            rows = incidents.cases_after(connection, self._last_case, PAGE)
        changed = sum(alone(self.kind, self._look_at, row) for row in self._going_on(rows, until) if not row.is_being_retried)
        if not rows or (len(rows) < PAGE and self._last_case == rows[-1].id):
            self._last_case = NIL
        return changed

    def _going_on(self, rows: Sequence[Row[Any]], until: float) -> Iterator[Row[Any]]:
        for row in in_time(rows, until):
            self._last_case = row.id
            yield row

    def _look_at(self, row: Row[Any]) -> bool:
        is_left_in_peace = row.status == FalloutStatus.RESOLVED and row.age < self._grace
        if is_left_in_peace:
            return False
        if row.evidence["trouble"] == Trouble.INSTANCE_NOT_ENDED:
            return self._has_ended(row) and self._make(row, Action.CASE_CLOSED, lambda uow: _close(uow, row))
        if row.evidence["trouble"] == Trouble.INSTANCE_LOST:
            return self._is_over(row) and self._make(row, Action.CASE_CLOSED, lambda uow: _close(uow, row))
        found = self._engine.incidents_at(row.evidence["processInstanceId"], row.evidence["activityId"])
        if not found:
            return self._make(row, Action.CASE_CLOSED, lambda uow: _close(uow, row))
        if row.status == FalloutStatus.RESOLVED and row.resolution == Resolution.RETRY:
            return self._reopen(row, found)
        return False

    def _has_ended(self, row: Row[Any]) -> bool:
        instance_id = row.evidence["processInstanceId"]
        instance = self._engine.instances_by_id([instance_id]).get(instance_id)
        return instance is None or not instance.is_running

    def _is_over(self, row: Row[Any]) -> bool:
        with unit_of_work(self._database, _looking(row.tenant_id)) as uow:
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


def _looking(tenant_id: UUID) -> Cause:
    return Cause(tenant_id=tenant_id, actor="reconciliation", command="look-at-case")


def _is_not_left_yet(uow: UnitOfWork, found: _Found) -> bool:
    """Whether nobody has recorded that the process of a case has failed. Its case is locked until commit."""
    uow.read(FalloutCase, found.key.id, lock=True)
    subject = (found.key.tenant_id, found.key.id)
    return found.process_instance_id not in findings.recorded_of(uow.connection, Incidents.kind, {subject})


def _close(uow: UnitOfWork, row: Row[Any]) -> bool:
    return incidents.close(uow, row.id, row.version)


def _failed_task(one: Incident, instance: EngineInstance | None) -> _Found | None:
    """What failed in one of our processes; None for a process of somebody else, or an incident that only repeats another one."""
    key = key_in(instance.business_key) if instance is not None else None
    if one.is_repeated or instance is None or key is None or instance.tenant_id != str(key.tenant_id):
        return None
    task = _as_task(one, instance.business_key, one.process_instance_id, one.activity_id)
    return _Found(task.business_key, task.process_instance_id, task.activity_id, key, task)


def _as_task(one: Incident, business_key: str, process_instance_id: str, activity_id: str) -> FailedTask:
    return FailedTask(
        business_key=business_key,
        process_instance_id=process_instance_id,
        activity_id=activity_id,
        incident_id=one.id,
        incident_type=one.type,
        message=one.message,
    )


def _repair_of_task(found: _Found, action: Action) -> Repair:
    return Repair(
        kind=Incidents.kind,
        tenant_id=found.key.tenant_id,
        aggregate_type="process_instance",
        aggregate_id=found.key.id,
        business_key=found.business_key,
        action=action,
        evidence={name: getattr(found.task, name) for name in FailedTask.__dataclass_fields__},
    )

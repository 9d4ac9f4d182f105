"""Processes that cannot go on by themselves: the case of each, and what a person's RETRY does about it.

One case per trouble: an instance that is gone, or the tasks of one instance that fail at one activity. It stays open until the trouble is over,
because a person's word alone restarts nothing (docs/domain.md#process-starts).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, exists, select, tuple_

from domain.delivery import processes, restarting
from domain.fallout import triaging
from domain.fallout.cases import FINAL, FalloutCase, FalloutType
from domain.fallout.triaging import CASE, OpenCase
from domain.store import UnitOfWork, is_one_of
from domain.store.claims import since
from domain.store.facts import WorkflowCommandKind, WorkflowCommandStatus
from domain.workflows import starts, watching
from domain.workflows.keys import OF_CASES, BusinessKey, Kind, parse
from domain.workflows.requests import COMMAND
from domain.workflows.starts import CorrelationMovedOn, CorrelationStatus

RETRY_MATTERS = timedelta(minutes=10)  # longer than the engine is usually away; a person may ask for it again


class Trouble(StrEnum):
    """Why a process cannot go on, or cannot be ended."""

    INSTANCE_LOST = "INSTANCE_LOST"
    TASK_FAILED = "TASK_FAILED"
    INSTANCE_NOT_ENDED = "INSTANCE_NOT_ENDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTask:
    """A task or job that the engine does not try again, and the instance in which it stands."""

    business_key: str
    process_instance_id: str
    activity_id: str
    incident_id: str
    incident_type: str
    message: str


def is_about_trouble(case: Row[Any]) -> bool:
    """Whether a case is about a trouble of a process, which shows by itself when it is over."""
    return case.type == FalloutType.WORKFLOW_INCIDENT and "trouble" in case.evidence


def lose(uow: UnitOfWork, business_key: str, process_instance_id: str, state: str, called: str | None = None) -> bool:
    """Record that an instance is gone although its business is not done; returns False when nobody misses it.

    `called`: the instance is there, but a process that it has called is gone, so that it waits for ever.

    A person gets a case, and may have another instance started. The process of a case is started again at once: it asks people about a case
    that exists, and a case about it would ask the same people. Raises NotFound, CorrelationMovedOn.
    """
    key = parse(business_key)
    if processes.is_done(uow, key):
        return False
    if key.kind is not Kind.FALLOUT_CASE:
        triaging.open_case(uow, _of_lost_instance(uow, key, process_instance_id, state, called))
    watching.lose(uow, business_key, process_instance_id)
    if key.kind is Kind.FALLOUT_CASE:
        restarting.restart(uow, business_key, process_instance_id)
    return True


def report_not_ended(uow: UnitOfWork, business_key: str, process_instance_id: str, reason: str) -> bool:
    """Open the case of an instance that nobody needs and that the engine does not end; returns False when there is one, or may be none.

    A case about the process of a case would need such a process itself.
    """
    key = parse(business_key)
    return key.kind not in OF_CASES and triaging.open_once(uow, _of_instance_not_ended(uow, key, process_instance_id, reason))


def may_have_case(uow: UnitOfWork, failed: FailedTask) -> bool:
    """Whether a failed task may have a case. The process of such a case would fail for the next case as well, and so on without end."""
    key = parse(failed.business_key)
    return not (key.kind in OF_CASES and uow.read(FalloutCase, key.id).type == FalloutType.WORKFLOW_INCIDENT)


def open_case_of(uow: UnitOfWork, failed: FailedTask) -> bool:
    """Open the case of a task that failed for good, or open it again; returns False when it is open already."""
    return triaging.open_once(uow, _of_failed_task(uow, parse(failed.business_key), failed))


def retry(uow: UnitOfWork, case: Row[Any]) -> None:
    """Do what RETRY means for the case of a process: have another instance started, or its failed task tried once more."""
    evidence = case.evidence
    if evidence.get("trouble") == Trouble.INSTANCE_LOST:
        with suppress(CorrelationMovedOn):  # somebody has restarted it already
            restarting.restart(uow, evidence["businessKey"], evidence["processInstanceId"])
    elif evidence.get("trouble") == Trouble.TASK_FAILED:
        at = {name: evidence[name] for name in ("processInstanceId", "activityId")}
        uow.ask_engine(WorkflowCommandKind.RETRY_TASK, at["activityId"], evidence["businessKey"], at, RETRY_MATTERS)


def close(uow: UnitOfWork, case_id: UUID, expected_version: int) -> bool:
    """Close the case of a process whose trouble is over. Returns False when the case has changed since it was read at this version."""
    case = uow.read(FalloutCase, case_id, lock=True)
    if case.version != expected_version:
        return False
    triaging.close(uow, case.dedupe_key, "THE_PROCESS_GOES_ON")
    return True


def reopen(uow: UnitOfWork, case_id: UUID, expected_version: int, failed: FailedTask) -> bool:
    """Open a case again whose task failed once more after a person's RETRY. Returns False when the case has changed since."""
    case = uow.read(FalloutCase, case_id, lock=True)
    return case.version == expected_version and open_case_of(uow, failed)


def is_over(uow: UnitOfWork, case: Row[Any]) -> bool:
    """Whether the lost instance of a case is replaced, or missed by nobody any more."""
    correlation = starts.find_locked(uow, case.evidence["businessKey"])
    if correlation is None:
        return False
    is_replaced = correlation.process_instance_id not in {None, case.evidence["processInstanceId"]}
    return is_replaced or correlation.status == CorrelationStatus.ENDED


def cases_after(connection: Connection, last: UUID, limit: int) -> list[Row[Any]]:
    """The open cases of processes with a trouble whose ids come after `last`, ordered by id.

    `is_being_retried`: the engine has not been asked yet for what a person's RETRY wants.
    """
    is_being_retried = exists(
        select(COMMAND.c.id).where(
            COMMAND.c.tenant_id == CASE.c.tenant_id,
            COMMAND.c.business_key == CASE.c.evidence["businessKey"].astext,
            COMMAND.c.kind == WorkflowCommandKind.RETRY_TASK,
            COMMAND.c.status == WorkflowCommandStatus.PENDING,
        )
    )
    query = (
        select(*CASE.c, is_being_retried.label("is_being_retried"), since(CASE.c.updated_at).label("age"))
        .where(is_one_of(CASE.c.type, FalloutType.WORKFLOW_INCIDENT), ~is_one_of(CASE.c.status, *FINAL), CASE.c.id > last)
        .where(CASE.c.evidence.has_key("trouble"))
        .order_by(CASE.c.id)
    )
    return list(connection.execute(query.limit(limit)))


def with_case(connection: Connection, failed: Collection[tuple[UUID, str]]) -> set[str]:
    """Those of these keys of failed tasks (tenant, key) that have an open case."""
    query = select(CASE.c.dedupe_key).where(
        tuple_(CASE.c.tenant_id, CASE.c.dedupe_key).in_(list(failed)), ~is_one_of(CASE.c.status, *FINAL)
    )
    return set(connection.scalars(query))


def key_of_failed_task(process_instance_id: str, activity_id: str) -> str:
    """The key of the trouble that an instance stands still at one activity, however many of its tasks fail there."""
    return f"incident:{process_instance_id}:{activity_id}"


def _of_lost_instance(uow: UnitOfWork, key: BusinessKey, process_instance_id: str, state: str, called: str | None) -> OpenCase:
    known = {"business_key": str(key), "process_instance_id": process_instance_id, "state": state}
    gone = f"The process of {key} is gone from the engine ({state}) before its end"
    waits = f"The process of {key} waits for {called}, which is gone from the engine ({state})"
    return OpenCase(
        type=FalloutType.WORKFLOW_INCIDENT,
        dedupe_key=f"instance:{key}:{process_instance_id}",
        detail=f"{waits if called else gone}: nothing goes on. RETRY starts a new one.",
        order_id=processes.order_of(uow, key),
        business_key=str(key),
        evidence={"trouble": Trouble.INSTANCE_LOST, **known, **({"called": called} if called else {})},
    )


def _of_instance_not_ended(uow: UnitOfWork, key: BusinessKey, process_instance_id: str, reason: str) -> OpenCase:
    known = {"business_key": str(key), "process_instance_id": process_instance_id, "reason": reason}
    return OpenCase(
        type=FalloutType.WORKFLOW_INCIDENT,
        dedupe_key=f"not ended:{process_instance_id}",
        detail=f"Nobody needs instance {process_instance_id} of {key}, and the engine does not end it: {reason}. End it in Cockpit.",
        order_id=processes.order_of(uow, key),
        business_key=str(key),
        evidence={"trouble": Trouble.INSTANCE_NOT_ENDED, **known},
    )


def _of_failed_task(uow: UnitOfWork, key: BusinessKey, failed: FailedTask) -> OpenCase:
    names: Mapping[str, Any] = {name: getattr(failed, name) for name in FailedTask.__dataclass_fields__}
    return OpenCase(
        type=FalloutType.WORKFLOW_INCIDENT,
        dedupe_key=key_of_failed_task(failed.process_instance_id, failed.activity_id),
        detail=f"The process of {key} stands still at {failed.activity_id}: {failed.message}. RETRY tries once more.",
        order_id=processes.order_of(uow, key),
        business_key=str(key),
        evidence={"trouble": Trouble.TASK_FAILED, **names},
    )

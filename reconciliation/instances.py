"""Registered process instances: compares what the engine says of each with what the domain still needs (docs/domain.md#process-starts).

The rule it keeps: an instance is asked about by its id, when it is due, so the cost does not depend on the engine's history. The engine says
what has become of an instance; whether anybody misses it, the domain says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain import findings
from domain.delivery import incidents, processes
from domain.errors import NotFound
from domain.findings import FindingStatus
from domain.store import Cause, UnitOfWork
from domain.store.unit_of_work import housekeeping
from domain.workflows import watching
from domain.workflows.keys import key_in
from domain.workflows.starts import CORRELATION, CorrelationMovedOn, CorrelationStatus, WorkflowCorrelation
from reconciliation.ending import end_instance
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.rounds import Claimed
from workers.runtime.commands import unit_of_work
from workers.runtime.engine import Engine
from workers.runtime.engine_history import EngineInstance

LIMIT = 200  # instances per sweep; all of them cost one call to the engine
SHORTEST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(minutes=10)
REASON = "Its business is done: nobody needs it any more."
COMPLETED = "COMPLETED"  # the engine's word for an instance that has reached an end event
UNKNOWN = "UNKNOWN"  # what we say of an instance that the engine's history does not have

_log = structlog.get_logger()


class Instances:
    """`grace`: how long an instance may run after its business is done. A process that missed a message asks the domain within ten minutes."""

    kind = "instance"

    def __init__(self, database: Database, engine: Engine, repairs: Repairs, grace: timedelta) -> None:
        self._database = database
        self._engine = engine
        self._repairs = repairs
        self._grace = grace
        self._due = Claimed(database, self.kind, CORRELATION, watching.due_instances, dry_run=repairs.dry_run)

    def sweep(self) -> int:
        """Look at every instance that is due; returns how many were settled. Raises EngineError."""
        rows = self._due.take(LIMIT)
        known = self._engine.instances_by_id([row.process_instance_id for row in rows])
        running = {id_ for id_, instance in known.items() if instance.is_running}
        keys = {row.process_instance_id: key for row in rows if (key := key_in(row.business_key)) is not None}
        with housekeeping(self._database) as connection:
            done = processes.done(connection, [key for id_, key in keys.items() if id_ not in running])
            done |= processes.done(connection, [key for id_, key in keys.items() if id_ in running], self._grace)
            seen = {(row.tenant_id, row.id) for row in rows if row.process_instance_id in running}
            recorded = findings.recorded_of(connection, self.kind, seen)
        needed = {row.process_instance_id for row in rows if row.business_key not in done} & running
        others = keys.keys() - needed
        self._look_again([row for row in rows if row.process_instance_id not in others])
        settle = partial(self._settle, known=known, done=done, recorded=recorded)
        return self._due.act_on([row for row in rows if row.process_instance_id in others], settle)

    def _settle(
        self,
        row: Row[Any],
        known: Mapping[str, EngineInstance],
        done: Collection[str],
        recorded: Mapping[str, Collection[str]],
    ) -> bool:
        instance, is_settled, is_done = known.get(row.process_instance_id), False, row.business_key in done
        try:
            if instance is None or not instance.is_running:
                is_settled = self._record_end(row, UNKNOWN if instance is None else instance.state, is_done=is_done)
            elif is_done:
                is_settled = self._terminate(row, recorded.get(row.process_instance_id, ()))
        except NotFound as refusal:
            _log.warning("process_instance_not_settled", businessKey=row.business_key, reason=str(refusal))
        finally:
            if not is_settled:
                self._look_again([row])  # one whose end was asked for is due already, and claimed no more: it stays due
        return is_settled

    def _look_again(self, rows: Sequence[Row[Any]], delay: timedelta | None = None) -> None:
        """Look at these rows again after `delay`; None: each after the time since it was registered or lost, within limits."""
        self._due.check_later([(row, min(max(row.age, SHORTEST_WAIT), LONGEST_WAIT) if delay is None else delay) for row in rows])

    def _record_end(self, row: Row[Any], state: str, *, is_done: bool) -> bool:
        key, instance_id = row.business_key, row.process_instance_id
        if is_done and state == COMPLETED:
            return self._note_end(row)
        if is_done:
            return self._make(row, Action.ENDED, state, lambda uow: _end(uow, key, instance_id))
        if row.status == CorrelationStatus.LOST:
            return False  # its case waits for a person
        return self._make(row, Action.LOST, state, lambda uow: incidents.lose(uow, key, instance_id, state))

    def _note_end(self, row: Row[Any]) -> bool:
        """Record the normal end of a process, which is no disagreement and no finding."""
        if self._repairs.dry_run:
            return False
        cause = Cause(tenant_id=row.tenant_id, actor="reconciliation", command="note-end", business_key=row.business_key)
        try:
            with unit_of_work(self._database, cause) as uow:
                watching.end(uow, row.business_key, row.process_instance_id)
        except CorrelationMovedOn:
            return False
        return True

    def _terminate(self, row: Row[Any], recorded: Collection[str]) -> bool:
        repair = replace(self._repair(row, Action.TERMINATED, "ACTIVE"), status=FindingStatus.OPEN)  # until it has ended
        is_recorded = Action.TERMINATED in recorded
        if not is_recorded and not self._repairs.make(repair, lambda uow: _is_registered(uow, row)):
            return False
        end_instance(self._engine, self._repairs, repair, REASON, recorded)
        self._look_again([row], timedelta(0))
        return not is_recorded

    def _make(self, row: Row[Any], action: Action, state: str, command: Callable[[UnitOfWork], bool]) -> bool:
        return self._repairs.make(self._repair(row, action, state), command)

    def _repair(self, row: Row[Any], action: Action, state: str) -> Repair:
        evidence = {"processInstanceId": row.process_instance_id, "state": state, "workflow": row.workflow_name}
        return Repair.of_process(self.kind, action, row, evidence)


def _end(uow: UnitOfWork, business_key: str, process_instance_id: str) -> bool:
    watching.end(uow, business_key, process_instance_id)
    return True


def _is_registered(uow: UnitOfWork, row: Row[Any]) -> bool:
    return bool(uow.read(WorkflowCorrelation, row.id, lock=True).process_instance_id == row.process_instance_id)

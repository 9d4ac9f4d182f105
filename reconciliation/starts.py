"""Process starts whose outcome is not known: asks the engine, then attaches the instance or starts again (docs/domain.md#process-starts).

The rule it keeps: "not found" counts only after the safe interval, because the request may still be on its way. An instance counts only if
it carries the start token, because anybody may start a process under any business key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import given_up
from domain.retry_rules import START_UNKNOWN
from domain.store import UnitOfWork
from domain.store.unit_of_work import housekeeping
from domain.workflows import open_starts, starts
from domain.workflows.starts import CorrelationStatus, RegisterWorkflow, WorkflowCorrelation
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.rounds import Claimed
from workers.runtime.engine import Engine, EngineRefusedError, Instance
from workers.runtime.metrics import WORKFLOW_START_UNRESOLVED

TERMINATED = frozenset({"EXTERNALLY_TERMINATED", "INTERNALLY_TERMINATED"})

_log = structlog.get_logger()


class Starts:
    """`start_safe_interval`: the longest time that a start may be on its way after the dispatcher gave up waiting for its response."""

    kind = "start"

    def __init__(self, database: Database, engine: Engine, repairs: Repairs, start_safe_interval: timedelta) -> None:
        self._database = database
        self._engine = engine
        self._repairs = repairs
        self._start_safe_interval = start_safe_interval
        claim = partial(open_starts.unresolved_starts, start_safe_interval=start_safe_interval)
        self._due = Claimed(database, self.kind, starts.CORRELATION, claim, dry_run=repairs.dry_run)

    def sweep(self) -> int:
        """Resolve every unresolved start that is due; returns how many were settled. Raises EngineError."""
        with housekeeping(self._database) as connection:
            WORKFLOW_START_UNRESOLVED.set(open_starts.unknown_starts(connection))
        return self._due.each(self._settle)

    def _settle(self, row: Row[Any]) -> bool:
        is_settled = False
        try:
            is_settled = self._time_out(row) if row.status == CorrelationStatus.REQUESTED else self._resolve(row)
        except EngineRefusedError as refusal:
            # The refusal is about this start alone; the other starts must not wait for it.
            _log.warning("workflow_start_not_looked_up", businessKey=row.business_key, reason=str(refusal))
            is_settled = row.is_unknown_for_too_long and self._give_up(row, str(refusal), {})
        finally:
            if not is_settled:
                self._due.check_later([(row, START_UNKNOWN.wait_after(row.age))])
        return is_settled

    def _time_out(self, row: Row[Any]) -> bool:
        """A request without an outcome that has left the dispatcher's queue becomes START_UNKNOWN, and is asked about like any other."""
        if row.start_is_queued:
            return False
        repair = Repair.of_process(self.kind, Action.TIMED_OUT, row, {"requestedAt": row.requested_at})
        return self._repairs.make(repair, lambda uow: _is_as_seen(uow, row) and starts.start_timed_out(uow, row.business_key))

    def _resolve(self, row: Row[Any]) -> bool:
        found = self._instances(row)
        evidence: dict[str, Any] = {"instances": [{"processInstanceId": one.id, "state": one.state} for one in found]}
        candidates = sorted((one for one in found if one.state not in TERMINATED), key=lambda one: not one.runtime)
        if candidates:
            return self._attach(row, candidates, evidence)
        if not row.is_past_safe_interval:
            return False
        evidence["safeIntervalSeconds"] = self._start_safe_interval.total_seconds()
        if row.is_unknown_for_too_long and row.attempts >= START_UNKNOWN.attempts:
            return self._give_up(row, "the engine has no instance of it", evidence)
        return self._repairs.make(
            Repair.of_process(self.kind, Action.STARTED_AGAIN, row, evidence), lambda uow: _start_again(uow, row)
        )

    def _give_up(self, row: Row[Any], reason: str, evidence: Mapping[str, Any]) -> bool:
        return self._repairs.make(
            Repair.of_process(self.kind, Action.GIVEN_UP, row, evidence), lambda uow: _give_up(uow, row, reason)
        )

    def _attach(self, row: Row[Any], candidates: Sequence[Instance], evidence: Mapping[str, Any]) -> bool:
        chosen, *others = candidates
        if others:
            # The other instances end by themselves at the registration gate.
            _log.warning(
                "workflow_started_more_than_once",
                businessKey=row.business_key,
                processInstanceId=chosen.id,
                otherInstanceIds=[one.id for one in others],
            )
        return self._repairs.make(
            Repair.of_process(self.kind, Action.ATTACHED, row, evidence), lambda uow: _register(uow, row, chosen)
        )

    def _instances(self, row: Row[Any]) -> list[Instance]:
        """Every instance that carries this start's token, oldest first."""
        same_key = [one for one in self._engine.find_instances(row.business_key) if one.definition_key == row.workflow_name]
        return [one for one in same_key if self._engine.past_variable(one.id, "startToken") == str(row.start_token)]


def _is_as_seen(uow: UnitOfWork, row: Row[Any]) -> bool:
    # Locked, so that a registration that was faster is seen, and no finding claims its work.
    return bool(uow.read(WorkflowCorrelation, row.id, lock=True).version == row.version)


def _register(uow: UnitOfWork, row: Row[Any], instance: Instance) -> bool:
    if not _is_as_seen(uow, row):
        return False
    command = RegisterWorkflow(business_key=row.business_key, start_token=row.start_token, process_instance_id=instance.id)
    starts.register(uow, command)
    return True


def _start_again(uow: UnitOfWork, row: Row[Any]) -> bool:
    starts.start_again(uow, row.business_key, row.version)
    return True


def _give_up(uow: UnitOfWork, row: Row[Any], reason: str) -> bool:
    starts.give_up(uow, row.business_key, row.version)
    tried = f"start process {row.workflow_name}"
    since = {"tried": tried, "times": row.attempts, "since": row.requested_at, "last_reason": reason}
    given_up.open_case(uow, row.business_key, f"No start of {row.workflow_name} has come to be known: {reason}", since)
    return True

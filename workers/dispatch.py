"""Carries workflow commands to the engine: start a process, send a message, complete or assign a user task, retry a task.

The rule it keeps: a command stays in its row until it is proven done or no longer matters. A start whose outcome is not known is never sent
a second time; it becomes START_UNKNOWN, and reconciliation asks the engine (docs/domain.md#process-starts). Messages and completions may be
repeated: the engine finds nothing that waits for them a second time. No transaction is open while the engine is called.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from threading import Event
from typing import Any
from uuid import UUID

import sqlalchemy
import structlog
from sqlalchemy import Row

from domain.callers import keys_of_callers
from domain.errors import Conflict
from domain.store import Cause, UnitOfWork, unit_of_work
from domain.store.facts import WorkflowCommandKind
from domain.store.unit_of_work import housekeeping
from domain.workflows import requests, starts
from domain.workflows.starts import CorrelationMovedOn, CorrelationStatus, DuplicateWorkflow, RegisterWorkflow
from workers.runtime.deliveries import DELIVERIES
from workers.runtime.engine import Engine, EngineError, EngineOutcomeUnknownError, EngineRefusedError, EngineUnavailableError
from workers.runtime.metrics import WORKFLOW_START_UNKNOWN
from workers.runtime.outages import is_outage
from workers.runtime.retries import repeat
from workers.runtime.set_aside import set_aside
from workers.runtime.variables import VariableError

THREADS = 8  # calls at the same time; each takes the engine milliseconds
BATCH = 32  # commands per claim: four rounds of the threads
POLL = timedelta(milliseconds=50)  # the longest wait of a new command while no other is due
# Half of it covers one call with its time limits (3 s to connect, 10 s for the response).
LEASE = timedelta(seconds=30)
SHORTEST_WAIT, LONGEST_WAIT = timedelta(milliseconds=100), timedelta(seconds=5)
# After an engine has failed a start for so long, reconciliation asks what it has, and the start is not sent again.
START_TRIES_FOR = timedelta(seconds=60)
NOT_THIS_START = frozenset(
    # A right that is missing, a model that is not deployed yet, a gateway's limit: they concern every start, and nothing was started.
    {
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """Commands of one business key, in order, and the time (monotonic seconds) until which their lease covers a call."""

    rows: Sequence[Row[Any]]
    send_until: float


class Dispatcher:
    """Any number may run side by side: each command belongs to one dispatcher for the time of a lease.

    When a lease ends while a start is under way, the outcome of the start is unknown. So `lease` must be well above the engine's time
    limits.
    """

    def __init__(self, database: sqlalchemy.Engine, engine: Engine, lease: timedelta = LEASE) -> None:
        self._database = database
        self._engine = engine
        self._lease = lease
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dispatch")

    def run(self, stop: Event) -> None:
        """Dispatch until `stop` is set, through outages of the database and the engine."""
        repeat(self.run_once, stop, service="workflow dispatch", idle=POLL)

    def run_once(self) -> int:
        """Carry out the commands that are due now; returns how many were claimed.

        Raises EngineUnavailableError after giving back the commands that could not be sent, and the database's errors.
        """
        claimed_at = time.monotonic()
        with housekeeping(self._database) as connection:
            rows = requests.claim(connection, BATCH, self._lease)
        by_key: dict[tuple[UUID, str], list[Row[Any]]] = defaultdict(list)
        for row in rows:
            by_key[row.tenant_id, row.business_key].append(row)
        send_until = claimed_at + self._lease.total_seconds() / 2
        in_order = (sorted(same, key=lambda row: row.position) for same in by_key.values())
        work = [
            self._threads.submit(self._carry_out_all, _Claim(rows=rows_of_key, send_until=send_until)) for rows_of_key in in_order
        ]
        errors = [error for error in [future.exception() for future in work] if error is not None]
        if errors:
            raise errors[0]
        return len(rows)

    def _carry_out_all(self, claim: _Claim) -> None:
        for row in claim.rows:
            if time.monotonic() > claim.send_until:
                self._give_back(row, timedelta(0), was_sent=False)
                continue
            try:
                self._carry_out(row)
            except Conflict as conflict:
                # Our lease ended and the next dispatcher has settled the command, or its process has read what the message tells.
                _log.info("workflow_command_settled_elsewhere", **_facts(row), conflictCode=conflict.code)
            except EngineUnavailableError:
                self._give_back(row, timedelta(0), was_sent=False)
                raise
            except Exception as error:
                if is_outage(error):
                    raise
                # A start is not sent a second time: whether this one has arrived is not known.
                set_aside("dispatch", "command", error, commandId=row.id, **_facts(row))
                self._give_back(row, self._longer(row), was_sent=True)

    def _carry_out(self, row: Row[Any]) -> None:
        if row.kind == WorkflowCommandKind.START:
            self._start(row)
        elif row.expired:
            self._settle(row, lambda uow: requests.expire(uow, row.id, "EXPIRED"))
            _log.info("workflow_command_expired", **_facts(row))
        else:
            self._deliver(row, partial(DELIVERIES[row.kind], self._engine, row))

    def _start(self, row: Row[Any]) -> None:
        if row.attempts > 1:
            self._start_unknown(row, "an earlier dispatcher may have sent it")
            return
        try:
            instance_id = self._engine.start_process(row.tenant_id, row.name, row.business_key, row.variables)
        except EngineOutcomeUnknownError as error:
            self._start_unknown(row, str(error))
        except EngineRefusedError as refusal:
            self._start_refused(row, refusal)
        except VariableError as error:
            self._start_impossible(row, str(error))
        else:
            self._started(row, instance_id)

    def _started(self, row: Row[Any], instance_id: str) -> None:
        token = UUID(row.variables["startToken"])
        gate = RegisterWorkflow(business_key=row.business_key, start_token=token, process_instance_id=instance_id)
        with unit_of_work(self._database, _cause(row, instance_id)) as uow:
            duplicate = _pass_gate(uow, gate)
            requests.finish(uow, row.id, duplicate.code if duplicate else "STARTED")
        if duplicate:
            # Another instance passed the registration gate first; this one ends there.
            _log.warning("workflow_start_duplicate", **_facts(row), processInstanceId=instance_id, conflictCode=duplicate.code)
        else:
            _log.info("workflow_started", **_facts(row), processInstanceId=instance_id)

    def _start_unknown(self, row: Row[Any], reason: str) -> None:
        with unit_of_work(self._database, _cause(row)) as uow:
            is_unknown = starts.start_timed_out(uow, row.business_key)
            requests.finish(uow, row.id, "START_UNKNOWN" if is_unknown else "STARTED")
        if is_unknown:
            WORKFLOW_START_UNKNOWN.labels(workflow=row.name).inc()
            _log.warning("workflow_start_unknown", **_facts(row), reason=reason)

    def _start_refused(self, row: Row[Any], refusal: EngineRefusedError) -> None:
        # The engine's own error means that its transaction was rolled back; a gateway's error proves nothing.
        is_rolled_back = refusal.status == HTTPStatus.INTERNAL_SERVER_ERROR and refusal.kind.endswith("Exception")
        if refusal.status in NOT_THIS_START or (is_rolled_back and self._age(row) < START_TRIES_FOR):
            self._try_later(row, refusal, was_sent=False)
        elif refusal.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self._start_impossible(row, str(refusal))
        else:
            self._start_unknown(row, str(refusal))

    def _start_impossible(self, row: Row[Any], reason: str) -> None:
        def refuse(uow: UnitOfWork) -> None:
            starts.start_refused(uow, row.business_key)
            requests.finish(uow, row.id, "START_FAILED")

        _log.error("workflow_start_refused", **_facts(row), reason=reason)
        try:
            self._settle(row, refuse)
        except CorrelationMovedOn:
            self._settle(row, lambda uow: requests.finish(uow, row.id, "STARTED"))

    def _deliver(self, row: Row[Any], call: Callable[[], bool]) -> None:
        try:
            is_done = call()
        except EngineUnavailableError:
            raise
        except EngineError as error:
            self._try_later(row, error, was_sent=True)
        except VariableError as error:
            reason = str(error)
            _log.error("workflow_command_impossible", **_facts(row), reason=reason)
            self._settle(row, lambda uow: requests.expire(uow, row.id, reason))
        else:
            if is_done:
                self._settle(row, lambda uow: requests.finish(uow, row.id, "DELIVERED"))
                _log.info("workflow_command_delivered", **_facts(row))
            elif row.attempts > 1 and self._has_ended(row):
                # Withdrawn, or decided otherwise: no process is left that could receive it.
                self._settle(row, lambda uow: requests.expire(uow, row.id, "PROCESS_ENDED"))
                _log.info("workflow_command_expired", **_facts(row))
            else:
                self._give_back(row, self._longer(row), was_sent=True)

    def _has_ended(self, row: Row[Any]) -> bool:
        with unit_of_work(self._database, _cause(row)) as uow:
            callers = keys_of_callers(uow, row.business_key)
        # A called process that was never begun has ended when its caller has.
        return any(self._is_over(row, key) for key in (row.business_key, *callers))

    def _is_over(self, row: Row[Any], business_key: str) -> bool:
        instances = self._engine.find_instances(business_key)
        if any(instance.runtime for instance in instances):
            return False
        with unit_of_work(self._database, _cause(row)) as uow:
            status = starts.status_of(uow, business_key)
        if status is None:
            return bool(instances)  # a called process has no correlation of its own
        # While a start is not settled, an instance may still come that has the place of those that have ended.
        return status == CorrelationStatus.START_FAILED or bool(instances and status not in starts.UNSETTLED)

    def _settle(self, row: Row[Any], act: Callable[[UnitOfWork], None]) -> None:
        with unit_of_work(self._database, _cause(row)) as uow:
            act(uow)

    def _try_later(self, row: Row[Any], error: EngineError, *, was_sent: bool) -> None:
        _log.warning("workflow_command_deferred", **_facts(row), reason=str(error))
        self._give_back(row, self._longer(row), was_sent=was_sent)

    def _give_back(self, row: Row[Any], delay: timedelta, *, was_sent: bool) -> None:
        with housekeeping(self._database) as connection:
            requests.give_back(connection, row, delay, was_sent=was_sent)

    def _longer(self, row: Row[Any]) -> timedelta:
        # Wait as long again as the command has waited so far: that doubles the wait each time, and needs no counter.
        return min(max(self._age(row), SHORTEST_WAIT), LONGEST_WAIT)

    def _age(self, row: Row[Any]) -> timedelta:
        # Only by the database's clock: the claim set `due_at` to its own time plus the lease.
        age: timedelta = row.due_at - self._lease - row.created_at
        return age


def _pass_gate(uow: UnitOfWork, gate: RegisterWorkflow) -> DuplicateWorkflow | None:
    try:
        starts.register(uow, gate)
    except DuplicateWorkflow as duplicate:
        # The command is settled all the same: the refusal is stored beside its outcome.
        uow.flag_conflict(duplicate)
        return duplicate
    return None


def _cause(row: Row[Any], instance_id: str | None = None) -> Cause:
    return Cause(
        tenant_id=row.tenant_id,
        actor="dispatch",
        command=f"dispatch-{row.kind.lower().replace('_', '-')}",
        command_id=row.id,
        process_instance_id=instance_id,
        business_key=row.business_key,
    )


def _facts(row: Row[Any]) -> dict[str, Any]:
    return {
        "tenantId": row.tenant_id,
        "businessKey": row.business_key,
        "kind": row.kind,
        "name": row.name,
        "attempts": row.attempts,
    }

"""Carries one command to the engine: start a process, send a message, complete or assign a user task, retry a task.

The rule it keeps: a command stays in its row until it is proven done, no longer matters, or is left to a person with a case, after the time
that domain/retry_rules.py gives it. A start whose outcome is not known is never sent a second time; it becomes START_UNKNOWN, and
reconciliation asks the engine (docs/domain.md#process-starts). Messages and completions may be repeated: the engine finds nothing that
waits for them a second time, or it is asked first whether it has them (`Message.looked_for`). No transaction is open while the engine is
called.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import UUID

import sqlalchemy
import structlog
from sqlalchemy import Row

from domain.callers import keys_of_callers
from domain.errors import Conflict
from domain.messages import LOOKED_FOR
from domain.retry_rules import START_REFUSED, START_ROLLED_BACK, WORKFLOW_COMMAND, WORKFLOW_COMMAND_UNKNOWN, RetryRule
from domain.store import UnitOfWork
from domain.store.facts import WorkflowCommandKind
from domain.store.unit_of_work import housekeeping
from domain.workflows import requests, starts
from domain.workflows.starts import CorrelationMovedOn, CorrelationStatus, RegisterWorkflow
from workers import dispatched
from workers.dispatched import alone, cause_of, facts_of, pass_gate
from workers.runtime.commands import unit_of_work
from workers.runtime.deliveries import DELIVERIES
from workers.runtime.engine import (
    Engine,
    EngineError,
    EngineLockedOutError,
    EngineOutcomeUnknownError,
    EngineRefusedError,
    EngineUnavailableError,
    EngineUntrustedError,
)
from workers.runtime.metrics import WORKFLOW_START_UNKNOWN
from workers.runtime.outages import is_outage
from workers.runtime.set_aside import set_aside
from workers.runtime.variables import VariableError

NOBODY_WAITS = "no process instance waits for it"
NOT_THIS_START = frozenset(
    # A right that is missing, a model that is not deployed yet, a limit: they concern every start, and nothing was started.
    {
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)

_log = structlog.get_logger()


class Carrier:
    """Carries out claimed commands, each with what the engine answers to it. Any number of threads may use it."""

    def __init__(self, database: sqlalchemy.Engine, engine: Engine) -> None:
        self._database = database
        self._engine = engine

    def carry_out(self, row: Row[Any]) -> None:
        """Carry out a command, or put it off or give it up as the engine answers.

        Raises EngineUnavailableError after giving the command back, the outages of the database, and Conflict when it is settled elsewhere.
        """
        try:
            self._carry_out(row)
        except EngineUnavailableError as error:
            with alone(row):
                self._not_now(row, error)
            raise
        except Exception as error:
            if isinstance(error, Conflict) or is_outage(error):
                raise
            # The command is the cause. Whether the engine has it is not known, so a start is not sent a second time.
            set_aside("dispatch", "command", error, commandId=row.id, **facts_of(row))
            self._try_later_or_give_up(row, WORKFLOW_COMMAND_UNKNOWN, str(error))

    def _carry_out(self, row: Row[Any]) -> None:
        if row.kind == WorkflowCommandKind.START:
            self._start(row)
        elif row.expired:
            self._settle(row, lambda uow: requests.expire(uow, row.id, "EXPIRED"))
            _log.info("workflow_command_expired", **facts_of(row))
        else:
            self._deliver(row, partial(self._call, row))

    def _call(self, row: Row[Any]) -> bool:
        return self._has_come(row) or DELIVERIES[row.kind](self._engine, row)

    def _has_come(self, row: Row[Any]) -> bool:
        """Whether the registered process already has this message. False for a message that leaves no trace; other instances do not count."""
        if row.kind != WorkflowCommandKind.CORRELATE or row.name not in LOOKED_FOR or not row.variables:
            return False
        with unit_of_work(self._database, cause_of(row)) as uow:
            instance_id = starts.registered_instance(uow, row.business_key)
        return instance_id is not None and self._engine.has_variables(instance_id, row.variables)

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
        with unit_of_work(self._database, cause_of(row, instance_id)) as uow:
            duplicate = pass_gate(uow, gate)
            requests.finish(uow, row.id, duplicate.code if duplicate else "STARTED")
        if duplicate:
            # Another instance passed the registration gate first; this one ends there.
            _log.warning("workflow_start_duplicate", **facts_of(row), processInstanceId=instance_id, conflictCode=duplicate.code)
        else:
            _log.info("workflow_started", **facts_of(row), processInstanceId=instance_id)

    def _start_unknown(self, row: Row[Any], reason: str) -> None:
        with unit_of_work(self._database, cause_of(row)) as uow:
            is_unknown = starts.start_timed_out(uow, row.business_key)
            requests.finish(uow, row.id, "START_UNKNOWN" if is_unknown else "STARTED")
        if is_unknown:
            WORKFLOW_START_UNKNOWN.labels(workflow=row.name).inc()
            _log.warning("workflow_start_unknown", **facts_of(row), reason=reason)

    def _start_refused(self, row: Row[Any], refusal: EngineRefusedError) -> None:
        is_rolled_back = refusal.status == HTTPStatus.INTERNAL_SERVER_ERROR and refusal.kind.endswith("Exception")
        if refusal.status in NOT_THIS_START and _is_left(row, START_REFUSED):
            self._try_later(row, START_REFUSED, str(refusal), was_sent=False)
        elif is_rolled_back and _is_left(row, START_ROLLED_BACK):
            self._try_later(row, START_ROLLED_BACK, str(refusal), was_sent=False)
        elif refusal.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self._start_impossible(row, str(refusal))
        else:
            self._start_unknown(row, str(refusal))

    def _not_now(self, row: Row[Any], error: EngineUnavailableError) -> None:
        # An engine that is away costs nothing. One that does not believe us refuses each start until a person acts.
        if row.kind != WorkflowCommandKind.START or not isinstance(error, (EngineLockedOutError, EngineUntrustedError)):
            self.give_back(row)
        elif _is_left(row, START_REFUSED):
            # Due at once: while nothing is due, nobody would notice that the engine is still away.
            self._put_off(row, START_REFUSED, str(error), was_sent=False, at_once=True)
        else:
            self._start_impossible(row, str(error))

    def _start_impossible(self, row: Row[Any], reason: str) -> None:
        _log.error("workflow_start_refused", **facts_of(row), reason=reason)
        try:
            self._settle(row, lambda uow: dispatched.fail_start(uow, row, reason))
        except CorrelationMovedOn:
            self._settle(row, lambda uow: requests.finish(uow, row.id, "STARTED"))

    def _deliver(self, row: Row[Any], call: Callable[[], bool]) -> None:
        try:
            is_done = call()
            has_ended = not is_done and row.attempts > 1 and self._has_ended(row)
        except EngineUnavailableError:
            raise
        except EngineOutcomeUnknownError as error:
            self._try_later_or_give_up(row, WORKFLOW_COMMAND_UNKNOWN, str(error))
        except EngineError as error:
            self._try_later_or_give_up(row, WORKFLOW_COMMAND, str(error))
        except VariableError as error:
            self._give_up(row, str(error))
        else:
            if is_done:
                self._settle(row, lambda uow: requests.finish(uow, row.id, "DELIVERED"))
                _log.info("workflow_command_delivered", **facts_of(row))
            elif has_ended:
                # Withdrawn, or decided otherwise: no process is left that could receive it.
                self._settle(row, lambda uow: requests.expire(uow, row.id, "PROCESS_ENDED"))
                _log.info("workflow_command_expired", **facts_of(row))
            elif _is_left(row, WORKFLOW_COMMAND):
                self._put_off(row, WORKFLOW_COMMAND, NOBODY_WAITS, was_sent=True)
            else:
                self._give_up(row, NOBODY_WAITS)

    def _try_later_or_give_up(self, row: Row[Any], rule: RetryRule, reason: str) -> None:
        if _is_left(row, rule):
            self._try_later(row, rule, reason, was_sent=True)
        else:
            self._give_up(row, reason)

    def _give_up(self, row: Row[Any], reason: str) -> None:
        _log.error("workflow_command_given_up", **facts_of(row), reason=reason)
        self._settle(row, lambda uow: dispatched.give_up(uow, row, reason))

    def _has_ended(self, row: Row[Any]) -> bool:
        with unit_of_work(self._database, cause_of(row)) as uow:
            callers = keys_of_callers(uow, row.business_key)
        # A called process that was never begun has ended when its caller has.
        return any(self._is_over(row, key) for key in (row.business_key, *callers))

    def _is_over(self, row: Row[Any], business_key: str) -> bool:
        instances = self._engine.find_instances(business_key)
        if any(instance.runtime for instance in instances):
            return False
        with unit_of_work(self._database, cause_of(row)) as uow:
            status = starts.status_of(uow, business_key)
        if status is None:
            return bool(instances)  # a called process has no correlation of its own
        # While a start is not settled, an instance may still come that has the place of those that have ended.
        return status == CorrelationStatus.START_FAILED or bool(instances and status not in starts.UNSETTLED)

    def _settle(self, row: Row[Any], act: Callable[[UnitOfWork], None]) -> None:
        with unit_of_work(self._database, cause_of(row)) as uow:
            act(uow)

    def _try_later(self, row: Row[Any], rule: RetryRule, reason: str, *, was_sent: bool) -> None:
        _log.warning("workflow_command_deferred", **facts_of(row), reason=reason)
        self._put_off(row, rule, reason, was_sent=was_sent)

    def _put_off(self, row: Row[Any], rule: RetryRule, reason: str, *, was_sent: bool, at_once: bool = False) -> None:
        with housekeeping(self._database) as connection:
            requests.put_off(connection, row, rule, reason, was_sent=was_sent, at_once=at_once)

    def give_back(self, row: Row[Any]) -> None:
        """Give back a command that certainly never left."""
        with housekeeping(self._database) as connection:
            requests.give_back(connection, row)


def _is_left(row: Row[Any], rule: RetryRule) -> bool:
    """Whether a command may be tried again by this rule."""
    return requests.time_of(row, rule) < rule.time

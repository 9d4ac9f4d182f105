"""Steps whose outcome is not known (the lesson, sections 12, 13 and 16): ask the provider by the key the request was sent with.

The rule it keeps: what the provider says is a fact and is recorded as one; what its silence says is an inference, drawn from a version
that was read before the question, and it loses to any callback that came meanwhile. Nothing is sent from here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain import evaluating, fulfilling, steps, sweeping
from domain.errors import Refusal
from domain.fulfilling import Infer, OutcomeSource, RecordFact
from domain.steps import FailureClass, StepEvent, StepStatus
from domain.store import Effect, UnitOfWork
from domain.store.unit_of_work import housekeeping
from reconciliation.patience import Patience
from reconciliation.repairs import Action, Repair, Repairs
from workers.providers.port import Provider, ProviderError, ProviderReply, ProviderUnavailableError, ReplyStatus
from workers.runtime.metrics import PROVIDER_UNKNOWN_OUTCOMES, PROVIDER_UNKNOWN_OUTCOMES_RESOLVED

LIMIT = 1000  # steps looked at per sweep, oldest first
BUDGET = timedelta(seconds=5)  # a provider that answers slowly must not keep the other sweeps waiting
SOURCE = OutcomeSource.RECONCILIATION
MEANING = {
    ReplyStatus.ACCEPTED: (Action.ACCEPTED, StepEvent.ACKNOWLEDGE),
    ReplyStatus.COMPLETED: (Action.COMPLETED, StepEvent.COMPLETE),
    ReplyStatus.REJECTED: (Action.REJECTED, StepEvent.FAIL_FINALLY),
    ReplyStatus.CANCELLED: (Action.CANCELLED, StepEvent.CONFIRM_CANCEL),
}

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepIntervals:
    """`stale_after`: silence after which a worker is taken for dead and a callback for overdue.

    `absence_interval`: the longest time that a request may be under way; before it is over, "never seen" proves nothing.
    """

    stale_after: timedelta
    absence_interval: timedelta


class Steps:
    """Turns silence into UNKNOWN, and UNKNOWN into what the provider knows."""

    kind = "step"

    def __init__(self, database: Database, providers: Mapping[str, Provider], repairs: Repairs, intervals: StepIntervals) -> None:
        self._database = database
        self._providers = providers
        self._repairs = repairs
        self._intervals = intervals
        self._patience = Patience()
        self._unreachable: set[str] = set()

    def sweep(self) -> int:
        """Time out what is silent, ask about what is open; returns how many steps were changed."""
        return self._time_out_silent() + self._ask_about_unanswered()

    def _time_out_silent(self) -> int:
        with housekeeping(self._database) as connection:
            rows = sweeping.silent_steps(connection, LIMIT, self._intervals.stale_after)
        return sum(self._time_out(row) for row in rows)

    def _time_out(self, row: Row[Any]) -> bool:
        is_changed = self._conclude(row, Action.TIMED_OUT, StepEvent.TIME_OUT, "the worker gave no sign of life")
        if is_changed and not self._repairs.dry_run:
            PROVIDER_UNKNOWN_OUTCOMES.labels(provider=row.provider_name).inc()
        return is_changed

    def _ask_about_unanswered(self) -> int:
        intervals = self._intervals
        with housekeeping(self._database) as connection:
            rows = sweeping.unanswered_steps(connection, LIMIT, intervals.stale_after, intervals.absence_interval)
        self._patience.forget_all_but({row.id for row in rows})
        ends_at = time.monotonic() + BUDGET.total_seconds()
        known, self._unreachable = self._unreachable, set()
        changed = 0
        for row in rows:
            if time.monotonic() > ends_at:
                break
            if not row.has_lookup:
                changed += self._give_up(row)
            elif row.provider_name not in self._unreachable and self._patience.is_over(row.id):
                changed += self._ask(row)
        for name in self._unreachable - known:
            _log.error("provider_cannot_be_asked", provider=name, hint="is it configured, and started?")
        return changed

    def _give_up(self, row: Row[Any]) -> bool:
        """A provider that cannot be asked: once the request must have arrived, a person has to find out."""
        if not row.is_safe or row.status != StepStatus.UNKNOWN:
            return False
        return self._conclude(row, Action.GIVEN_UP, StepEvent.FIND_UNCLEAR, "the provider cannot tell what became of it")

    def _ask(self, row: Row[Any]) -> bool:
        provider = self._providers.get(row.provider_name)
        # One step tells for all of this provider's.
        if provider is None:
            self._unreachable.add(row.provider_name)
            return False
        try:
            reply = provider.query(row.idempotency_key)
        except ProviderUnavailableError:
            self._unreachable.add(row.provider_name)
            return False
        except ProviderError as error:
            key = steps.business_key(row.tenant_id, row.id)
            _log.warning("provider_gave_no_answer", provider=row.provider_name, businessKey=key, reason=str(error))
            self._patience.wait(row.id)
            return False
        return self._act_on(row, reply)

    def _act_on(self, row: Row[Any], reply: ProviderReply | None) -> bool:
        is_unknown = row.status == StepStatus.UNKNOWN
        has_news = row.is_safe if reply is None else is_unknown or reply.status is not ReplyStatus.ACCEPTED
        if not has_news:
            self._patience.wait(row.id)
            return False
        if reply is None:
            action, is_changed = (
                Action.ABSENT,
                self._conclude(row, Action.ABSENT, StepEvent.FIND_ABSENT, "the provider never saw it"),
            )
        else:
            action, is_changed = MEANING[reply.status][0], self._record(row, reply)
        if is_changed and is_unknown and not self._repairs.dry_run:
            PROVIDER_UNKNOWN_OUTCOMES_RESOLVED.labels(provider=row.provider_name, resolution=action.value).inc()
        return is_changed

    def _record(self, row: Row[Any], reply: ProviderReply) -> bool:
        action, event = MEANING[reply.status]
        fact = RecordFact(
            step_id=row.id,
            event=event,
            source=SOURCE,
            external_ref=reply.external_ref,
            external_request_id=reply.request_id,
            failure_class=FailureClass.REJECTED if event is StepEvent.FAIL_FINALLY else FailureClass.NONE,
            reason=reply.reason,
        )
        evidence = {"providerStatus": reply.status, "requestId": reply.request_id, "externalRef": reply.external_ref}

        def record(uow: UnitOfWork) -> bool:
            effect, _ = fulfilling.record_fact(uow, fact)
            return effect is not Effect.KEEP

        return self._make(row, _repair(row, action, evidence), record)

    def _conclude(self, row: Row[Any], action: Action, event: StepEvent, reason: str) -> bool:
        conclusion = Infer(
            step_id=row.id,
            expected_version=row.version,
            event=event,
            source=SOURCE,
            safe_interval=self._intervals.absence_interval,
            silent_for=self._intervals.stale_after,
            reason=reason,
        )
        evidence = {"workerId": row.worker_id, "sentAt": row.sent_at, "heartbeatAt": row.heartbeat_at, "reason": reason}

        def infer(uow: UnitOfWork) -> bool:
            fulfilling.infer(uow, conclusion)
            return True

        return self._make(row, _repair(row, action, evidence), infer)

    def _make(self, row: Row[Any], repair: Repair, act: Callable[[UnitOfWork], bool]) -> bool:
        is_changed = self._repairs.make(repair, act)
        if is_changed and not self._repairs.dry_run:
            self._evaluate(row, repair)
        return is_changed

    def _evaluate(self, row: Row[Any], repair: Repair) -> None:
        try:
            with self._repairs.unit_of_work(repair) as uow:
                evaluating.evaluate(uow, row.order_id)
        except Refusal as refusal:
            _log.info("order_evaluated_elsewhere", orderId=row.order_id, conflictCode=refusal.code)


def _repair(row: Row[Any], action: Action, evidence: Mapping[str, Any]) -> Repair:
    return Repair(
        kind=Steps.kind,
        tenant_id=row.tenant_id,
        aggregate_type="fulfillment_step",
        aggregate_id=row.id,
        business_key=steps.business_key(row.tenant_id, row.id),
        action=action,
        evidence={"stepStatus": row.status, "attemptId": row.attempt_id, "idempotencyKey": row.idempotency_key, **evidence},
    )

"""Cancellations of steps of which nobody knows what became (the lesson, section 12): ask the provider by the key that each was sent with.

Asked about are the cancellation, also of a step that has completed meanwhile (its order waits for the answer), and the request that it is
to stop. What is proven absent may be sent again by the step's own process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain import evaluating, fulfilling, starting, steps, sweeping
from domain.errors import Refusal
from domain.fulfilling import Infer, OutcomeSource, RecordFact
from domain.steps import AttemptStatus, StepEvent
from domain.store import UnitOfWork
from domain.store.unit_of_work import housekeeping
from reconciliation.patience import Patience
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.steps import MEANING, StepIntervals
from workers.providers.port import Provider, ProviderError, ProviderReply, ReplyStatus

LIMIT = 200  # questions per sweep
SOURCE = OutcomeSource.RECONCILIATION
OF_CANCELLATION = {
    ReplyStatus.COMPLETED: (Action.CANCELLED, StepEvent.CONFIRM_CANCEL),
    ReplyStatus.REJECTED: (Action.REFUSED, StepEvent.REFUSE_CANCEL),
}

_log = structlog.get_logger()


class Cancellations:
    """Asks about what was not answered; the intervals are those of steps."""

    kind = "cancellation"

    def __init__(self, database: Database, providers: Mapping[str, Provider], repairs: Repairs, intervals: StepIntervals) -> None:
        self._database = database
        self._providers = providers
        self._repairs = repairs
        self._intervals = intervals
        self._patience = Patience()

    def sweep(self) -> int:
        """Ask about every unanswered cancellation; returns how many were settled."""
        with housekeeping(self._database) as connection:
            rows = sweeping.unanswered_cancellations(
                connection, LIMIT, self._intervals.stale_after, self._intervals.absence_interval
            )
        self._patience.forget_all_but({row.attempt_id for row in rows})
        return sum(self._ask(row) for row in rows if self._patience.is_over(row.attempt_id))

    def _ask(self, row: Row[Any]) -> bool:
        is_settled = False
        try:
            is_settled = row.has_lookup and self._act_on(row, self._providers[row.provider_name].query(row.idempotency_key))
        except (ProviderError, KeyError) as error:
            key = steps.business_key(row.tenant_id, row.id)
            _log.warning("provider_gave_no_answer", provider=row.provider_name, businessKey=key, reason=str(error))
        if not is_settled:
            self._patience.wait(row.attempt_id)
        return is_settled

    def _act_on(self, row: Row[Any], reply: ProviderReply | None) -> bool:
        if reply is None:
            return bool(row.is_safe) and self._make(row, Action.ABSENT, {}, lambda uow: _absent(uow, row, self._intervals))
        found = (OF_CANCELLATION if row.command == "CANCEL" else MEANING).get(reply.status)
        if found is None or reply.status is ReplyStatus.ACCEPTED:
            return False
        action, event = found
        fact = RecordFact(
            step_id=row.id,
            event=event,
            source=SOURCE,
            external_ref=reply.external_ref if event is StepEvent.COMPLETE else None,
            external_request_id=reply.request_id,
            reason=reply.reason,
        )
        evidence = {"providerStatus": reply.status, "requestId": reply.request_id}
        return self._make(row, action, evidence, lambda uow: _record(uow, fact))

    def _make(self, row: Row[Any], action: Action, evidence: Mapping[str, Any], act: Any) -> bool:
        repair = Repair(
            kind=self.kind,
            tenant_id=row.tenant_id,
            aggregate_type="fulfillment_step",
            aggregate_id=row.id,
            business_key=steps.business_key(row.tenant_id, row.id),
            action=action,
            evidence={"stepStatus": row.status, "attemptId": row.attempt_id, "idempotencyKey": row.idempotency_key, **evidence},
        )
        is_changed = self._repairs.make(repair, act)
        if is_changed and not self._repairs.dry_run:
            evaluate(self._repairs, repair, row)
        return is_changed


def _record(uow: UnitOfWork, fact: RecordFact) -> bool:
    fulfilling.record_fact(uow, fact)
    return True


def _absent(uow: UnitOfWork, row: Row[Any], intervals: StepIntervals) -> bool:
    if row.command == "CANCEL":
        starting.end_cancellation(uow, row.id, AttemptStatus.ABSENT)
        return True
    conclusion = Infer(
        step_id=row.id,
        expected_version=row.version,
        event=StepEvent.FIND_ABSENT,
        source=SOURCE,
        safe_interval=intervals.absence_interval,
        reason="the provider never saw it",
    )
    fulfilling.infer(uow, conclusion)
    return True


def evaluate(repairs: Repairs, repair: Repair, row: Row[Any]) -> None:
    """Bring the order of a step that was settled to where its steps have brought it."""
    try:
        with repairs.unit_of_work(repair) as uow:
            evaluating.evaluate(uow, row.order_id)
    except Refusal as refusal:
        _log.info("order_evaluated_elsewhere", orderId=row.order_id, conflictCode=refusal.code)

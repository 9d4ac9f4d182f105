"""Cancellations of steps of which nobody knows what became (the lesson, section 12): ask the provider by the key that each was sent with.

Asked about are the cancellation, also of a step that has completed meanwhile (its order waits for the answer), and the request that it is
to stop. What is proven absent may be sent again by the step's own process. What nobody can tell is for a person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import fulfilling, starting, steps, unanswered
from domain.delivery.attempts import AttemptCommand, AttemptStatus
from domain.delivery.fulfilling import Infer, OutcomeSource, RecordFact
from domain.delivery.steps import StepEvent, StepStatus
from domain.store import UnitOfWork
from domain.store.unit_of_work import housekeeping
from reconciliation.evaluations import make_and_evaluate
from reconciliation.questions import Questions, Silence, Told, key_of_attempt
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.steps import MEANING
from workers.providers.port import Provider, ProviderReply, ReplyStatus

LIMIT = 200  # questions per sweep
SOURCE = OutcomeSource.RECONCILIATION
OF_CANCELLATION = {
    ReplyStatus.COMPLETED: (Action.CANCELLED, StepEvent.CONFIRM_CANCEL),
    ReplyStatus.REJECTED: (Action.REFUSED, StepEvent.REFUSE_CANCEL),
}


class Cancellations:
    """Asks about what was not answered."""

    kind = "cancellation"

    def __init__(self, database: Database, providers: Mapping[str, Provider], repairs: Repairs, silence: Silence) -> None:
        self._database = database
        self._questions = Questions(providers, key_of_attempt)
        self._repairs = repairs
        self._silence = silence

    def sweep(self) -> int:
        """Ask about every unanswered cancellation; returns how many were settled."""
        each = self._silence
        with housekeeping(self._database) as connection:
            rows = unanswered.unanswered_cancellations(
                connection, LIMIT, each.stale_after, each.absence_interval, each.give_up_after
            )
        return sum(self._act_on(row, told) for row, told in self._questions.put(rows))

    def _act_on(self, row: Row[Any], told: Told | None) -> bool:
        if told is None:
            return self._give_up(row)
        is_settled = self._find_absent(row) if told.reply is None else self._record(row, told.reply)
        if not is_settled:
            self._questions.ask_later(row.question_id)
        return is_settled

    def _give_up(self, row: Row[Any]) -> bool:
        """Nobody tells. What the provider has taken is waited for as long as anything."""
        is_silent = not row.has_lookup and row.is_past_safe_interval and row.attempt_status != AttemptStatus.ACKNOWLEDGED
        if not (row.is_to_be_given_up or is_silent):
            return False
        reason = "the provider cannot tell what became of it"
        if row.status == StepStatus.CANCEL_REQUESTED:
            return self._make(row, Action.GIVEN_UP, {}, self._inferring(row, StepEvent.FIND_UNCLEAR, reason))
        # The step is settled, and so is this: what it was asked to undo is undone by a step of its own.
        return row.command == AttemptCommand.CANCEL and self._make(row, Action.GIVEN_UP, {}, _noting(row, AttemptStatus.FAILED))

    def _find_absent(self, row: Row[Any]) -> bool:
        if not row.is_past_safe_interval:
            return False
        if row.command == AttemptCommand.CANCEL:
            return self._make(row, Action.ABSENT, {}, _noting(row, AttemptStatus.ABSENT))
        return self._make(row, Action.ABSENT, {}, self._inferring(row, StepEvent.FIND_ABSENT, "the provider never saw it"))

    def _record(self, row: Row[Any], reply: ProviderReply) -> bool:
        found = (OF_CANCELLATION if row.command == AttemptCommand.CANCEL else MEANING).get(reply.status)
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

        def record(uow: UnitOfWork) -> bool:
            fulfilling.record_fact(uow, fact)
            return True

        return self._make(row, action, {"providerStatus": reply.status, "requestId": reply.request_id}, record)

    def _inferring(self, row: Row[Any], event: StepEvent, reason: str) -> Callable[[UnitOfWork], bool]:
        interval = self._silence.absence_interval
        conclusion = Infer(
            step_id=row.id, expected_version=row.version, event=event, source=SOURCE, request_safe_interval=interval, reason=reason
        )

        def infer(uow: UnitOfWork) -> bool:
            fulfilling.infer(uow, conclusion)
            return True

        return infer

    def _make(self, row: Row[Any], action: Action, evidence: Mapping[str, Any], act: Callable[[UnitOfWork], bool]) -> bool:
        known = {"stepStatus": row.status, "attemptId": row.question_id, "idempotencyKey": row.idempotency_key}
        repair = Repair(
            kind=self.kind,
            tenant_id=row.tenant_id,
            aggregate_type="fulfillment_step",
            aggregate_id=row.id,
            business_key=steps.business_key(row.tenant_id, row.id),
            action=action,
            evidence={**known, **evidence},
        )
        return make_and_evaluate(self._repairs, repair, act, row.order_id)


def _noting(row: Row[Any], status: AttemptStatus) -> Callable[[UnitOfWork], bool]:
    return lambda uow: starting.record_cancellation_status(uow, row.question_id, status)

"""Cancellations of steps of which nobody knows what became (the lesson, section 12): ask the provider by the key that each was sent with.

Asked about are the cancellation, also of a step that has completed meanwhile (its order waits for the answer), and the request that it is
to stop. What is proven absent may be sent again by the step's own process; what nobody answers goes to a person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain import fulfilling, sweeping, unanswered
from domain.fulfilling import RecordFact
from domain.steps import AttemptStatus, StepEvent
from domain.store import UnitOfWork
from domain.store.unit_of_work import housekeeping
from reconciliation.questions import Questions, UnansweredError
from reconciliation.repairs import Action, Repairs
from reconciliation.steps import (
    MEANING,
    NEVER_SEEN,
    NO_ANSWER,
    NO_LOOKUP,
    SOURCE,
    StepIntervals,
    conclusion_of,
    fact_of,
    repair_of,
    told,
)
from workers.providers.port import Provider, ProviderReply, ReplyStatus
from workers.runtime.metrics import PROVIDER_UNKNOWN_OUTCOMES_RESOLVED

LIMIT = 200  # attempts looked at per sweep, those of the step that waits longest first
CANCEL = "CANCEL"
OF_CANCELLATION = {
    ReplyStatus.COMPLETED: (Action.CANCELLED, StepEvent.CONFIRM_CANCEL),
    ReplyStatus.REJECTED: (Action.REFUSED, StepEvent.REFUSE_CANCEL),
}


class Cancellations:
    """Asks about what was not answered; the intervals are those of steps."""

    kind = "cancellation"

    def __init__(self, database: Database, providers: Mapping[str, Provider], repairs: Repairs, intervals: StepIntervals) -> None:
        self._database = database
        self._repairs = repairs
        self._intervals = intervals
        self._questions = Questions(providers)

    def sweep(self) -> int:
        """Ask about every unanswered cancellation; returns at how many steps something was settled."""
        intervals = self._intervals
        with housekeeping(self._database) as connection:
            rows = sweeping.unanswered_cancellations(connection, LIMIT, intervals.stale_after, intervals.absence_interval)
        silent = [row for row in rows if not row.has_lookup and row.waited > intervals.absence_interval]
        settled = {row.id for row in silent if self._give_up(row, NO_LOOKUP)}
        return len(settled | self._ask_about([row for row in rows if row.has_lookup]))

    def _ask_about(self, rows: list[Row[Any]]) -> set[UUID]:
        settled: set[UUID] = set()
        for row in self._questions.due(rows, lambda row: row.attempt_id):
            # What was read of a step that has changed since is old.
            if row.id not in settled and self._ask(row):
                settled.add(row.id)
        return settled

    def _ask(self, row: Row[Any]) -> bool:
        try:
            reply = self._questions.ask(row.attempt_id, row.provider_name, row.idempotency_key)
        except UnansweredError:
            return row.waited > self._intervals.give_up_after and self._give_up(row, NO_ANSWER)
        is_settled = self._conclude_absence(row) if reply is None else self._record(row, reply)
        if not is_settled:
            self._questions.in_vain(row.attempt_id)
        return is_settled

    def _record(self, row: Row[Any], reply: ProviderReply) -> bool:
        if reply.status is ReplyStatus.ACCEPTED and row.attempt_status == AttemptStatus.ACKNOWLEDGED:
            return False
        if row.command != CANCEL:
            fact, action = fact_of(row, reply), MEANING[reply.status][0]
            return self._make(row, action, told(reply), lambda uow: unanswered.record_answer(uow, fact, row.attempt_id))
        if reply.status is ReplyStatus.ACCEPTED:
            return self._make(row, Action.ACCEPTED, told(reply), lambda uow: _accept(uow, row, reply.request_id))
        if reply.status not in OF_CANCELLATION:
            return False
        action, event = OF_CANCELLATION[reply.status]
        # Without its reference, which is not that of the effect.
        fact = RecordFact(step_id=row.id, event=event, source=SOURCE, external_request_id=reply.request_id, reason=reply.reason)
        return self._make(row, action, told(reply), lambda uow: unanswered.record_answer(uow, fact, row.attempt_id))

    def _conclude_absence(self, row: Row[Any]) -> bool:
        if not row.is_safe:
            return False
        return self._make(row, Action.ABSENT, {"reason": NEVER_SEEN}, lambda uow: self._absent(uow, row))

    def _absent(self, uow: UnitOfWork, row: Row[Any]) -> bool:
        if row.command == CANCEL:
            return unanswered.find_cancellation_absent(uow, row.id, row.attempt_id)
        fulfilling.infer(uow, conclusion_of(row, StepEvent.FIND_ABSENT, NEVER_SEEN, self._intervals))
        return True

    def _give_up(self, row: Row[Any], reason: str) -> bool:
        """What the provider has taken on is waited for, and the answer to a cancellation settles its request too."""
        if row.attempt_status == AttemptStatus.ACKNOWLEDGED or (row.command != CANCEL and row.is_being_cancelled):
            return False
        return self._make(row, Action.GIVEN_UP, {"reason": reason}, lambda uow: self._unclear(uow, row, reason))

    def _unclear(self, uow: UnitOfWork, row: Row[Any], reason: str) -> bool:
        conclusion = conclusion_of(row, StepEvent.FIND_UNCLEAR, reason, self._intervals)
        if row.command == CANCEL:
            return unanswered.give_up_cancellation(uow, row.attempt_id, conclusion)
        fulfilling.infer(uow, conclusion)
        return True

    def _make(self, row: Row[Any], action: Action, evidence: Mapping[str, Any], act: Callable[[UnitOfWork], bool]) -> bool:
        is_changed = self._repairs.make_of_step(repair_of(self.kind, row, action, evidence), row.order_id, act)
        was_unknown = row.command != CANCEL and row.attempt_status == AttemptStatus.UNKNOWN and action is not Action.GIVEN_UP
        if is_changed and was_unknown and not self._repairs.dry_run:
            PROVIDER_UNKNOWN_OUTCOMES_RESOLVED.labels(provider=row.provider_name, resolution=action.value).inc()
        return is_changed


def _accept(uow: UnitOfWork, row: Row[Any], request_id: str | None) -> bool:
    return unanswered.accept_cancellation(uow, row.id, row.attempt_id, request_id)

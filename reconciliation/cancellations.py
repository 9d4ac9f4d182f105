"""Unanswered cancellations of steps: asks the provider under the key that each was sent with (docs/domain.md#cancellation-and-undo).

It asks about the cancellation, also when its step has completed meanwhile (the order waits for the reply), and about the request that the
cancellation is to stop. The step's own process may send again what is proven absent. What no provider can tell is for a person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row
from sqlalchemy import Engine as Database

from domain.delivery import attempts, fulfilling, starting, unanswered
from domain.delivery.attempts import ATTEMPT, AttemptCommand, AttemptStatus
from domain.delivery.fulfilling import Infer, OutcomeSource, RecordFact
from domain.delivery.steps import StepEvent, StepStatus
from domain.delivery.unanswered import KEY, Silence, Unasked
from domain.store import CellKind, UnitOfWork
from reconciliation.questions import NEVER_SEEN, NO_REPLY, Outcome, Questions, key_of_attempt
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.steps import MEANING
from workers.providers.port import Provider, ProviderReply, ReplyStatus

SOURCE = OutcomeSource.RECONCILIATION
OF_CANCELLATION = {
    ReplyStatus.COMPLETED: (Action.CANCELLED, StepEvent.CONFIRM_CANCEL),
    ReplyStatus.REJECTED: (Action.REFUSED, StepEvent.REFUSE_CANCEL),
}
"""What a reply about a request to cancel means. CANCELLED is not among them: it says that this request has no effect, not that the step has none."""


class Cancellations:
    """Asks about every cancellation without a reply."""

    kind = "cancellation"

    def __init__(self, database: Database, providers: Mapping[str, Provider], repairs: Repairs, silence: Silence) -> None:
        self._questions = Questions(
            database, providers, ATTEMPT, take=self._take, key_of=key_of_attempt, row_key=KEY, dry_run=repairs.dry_run
        )
        self._repairs = repairs
        self._silence = silence

    def sweep(self) -> int:
        """Ask about every unanswered cancellation; returns how many were settled."""
        return self._questions.put(self.kind, self._act_on)

    def _take(self, connection: Connection, limit: int, lease: timedelta | None, unasked: Unasked) -> list[Row[Any]]:
        return unanswered.unanswered_cancellations(connection, limit, lease, self._silence, unasked)

    def _act_on(self, row: Row[Any], outcome: Outcome) -> bool:
        if outcome is NO_REPLY:
            return self._give_up(row)
        return self._find_absent(row) if outcome is NEVER_SEEN else self._record(row, outcome.reply)

    def _give_up(self, row: Row[Any]) -> bool:
        """Leave the cancellation to a person when no usable reply will come. One that the provider has accepted waits the full time."""
        is_silent = not row.has_lookup and row.is_past_safe_interval and row.attempt_status != AttemptStatus.ACKNOWLEDGED
        if not (row.is_to_be_given_up or is_silent):
            return False
        reason = "the provider cannot tell what became of it"
        if row.status == StepStatus.CANCEL_REQUESTED:
            return self._make(row, Action.GIVEN_UP, {}, self._inferring(row, StepEvent.FIND_UNCLEAR, reason))
        # The step is settled, and so is its cancellation: an effect that must go is undone by a step of its own.
        return row.command == AttemptCommand.CANCEL and self._make(row, Action.GIVEN_UP, {}, _recording(row, AttemptStatus.FAILED))

    def _find_absent(self, row: Row[Any]) -> bool:
        if not row.is_past_safe_interval:
            return False
        if row.command == AttemptCommand.CANCEL:
            return self._make(row, Action.ABSENT, {}, _recording(row, AttemptStatus.ABSENT))
        return self._make(row, Action.ABSENT, {}, self._inferring(row, StepEvent.FIND_ABSENT, "the provider never saw it"))

    def _record(self, row: Row[Any], reply: ProviderReply) -> bool:
        if reply.status is ReplyStatus.ACCEPTED:
            return False
        found = (OF_CANCELLATION if row.command == AttemptCommand.CANCEL else MEANING).get(reply.status)
        if found is None:
            return self._give_up(row)
        action, event = found
        fact = RecordFact(
            step_id=row.id,
            event=event,
            source=SOURCE,
            request_no=attempts.request_no_of(row.idempotency_key),
            external_ref=reply.external_ref if event is StepEvent.COMPLETE else None,
            external_request_id=reply.request_id,
            reason=reply.reason,
        )

        def record(uow: UnitOfWork) -> bool:
            was_live = attempts.is_live(uow, row.question_id)
            kind, _ = fulfilling.record_fact(uow, fact)
            return kind is not CellKind.KEEP or (was_live and not attempts.is_live(uow, row.question_id))

        return self._make(row, action, {"providerStatus": reply.status, "requestId": reply.request_id}, record)

    def _inferring(self, row: Row[Any], event: StepEvent, reason: str) -> Callable[[UnitOfWork], bool]:
        interval = self._silence.request_safe_interval
        conclusion = Infer(
            step_id=row.id, expected_version=row.version, event=event, source=SOURCE, request_safe_interval=interval, reason=reason
        )

        def infer(uow: UnitOfWork) -> bool:
            fulfilling.infer(uow, conclusion)
            return True

        return infer

    def _make(self, row: Row[Any], action: Action, evidence: Mapping[str, Any], command: Callable[[UnitOfWork], bool]) -> bool:
        known = {"stepStatus": row.status, "attemptId": row.question_id, "idempotencyKey": row.idempotency_key}
        repair = Repair.of_step(self.kind, action, row.tenant_id, row.id, {**known, **evidence})
        return self._repairs.make_and_evaluate(repair, command, row.order_id)


def _recording(row: Row[Any], status: AttemptStatus) -> Callable[[UnitOfWork], bool]:
    return lambda uow: starting.record_cancellation_status(uow, row.question_id, status)

"""Steps whose outcome is not known: asks the provider under the key that the request was sent with
(docs/domain.md#steps-attempts-and-retries).

The rule it keeps: a provider's reply is a fact, and is recorded as one. What follows from its silence is an inference, drawn from a version
that was read before the question; it loses to any callback that came meanwhile. Nothing is sent from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row
from sqlalchemy import Engine as Database

from domain.delivery import fulfilling, unanswered
from domain.delivery.attempts import ATTEMPT, request_no_of
from domain.delivery.fulfilling import Infer, OutcomeSource, RecordFact
from domain.delivery.steps import FailureClass, StepEvent, StepStatus
from domain.delivery.unanswered import KEY, Silence, Unasked
from domain.store import CellKind, UnitOfWork
from reconciliation.questions import NEVER_SEEN, NO_REPLY, Outcome, Questions, Replied, key_of_attempt
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.rounds import Claimed, budget_ends
from workers.providers.port import Provider, ProviderReply, ReplyStatus
from workers.runtime.metrics import PROVIDER_UNKNOWN_OUTCOMES, PROVIDER_UNKNOWN_OUTCOMES_RESOLVED

SOURCE = OutcomeSource.RECONCILIATION
MEANING = {
    ReplyStatus.ACCEPTED: (Action.ACCEPTED, StepEvent.ACKNOWLEDGE),
    ReplyStatus.COMPLETED: (Action.COMPLETED, StepEvent.COMPLETE),
    ReplyStatus.REJECTED: (Action.REJECTED, StepEvent.FAIL_FINALLY),
    ReplyStatus.CANCELLED: (Action.CANCELLED, StepEvent.CONFIRM_CANCEL),
}


class Steps:
    """Turns silence into UNKNOWN, and UNKNOWN into the outcome that the provider has on record."""

    kind = "step"

    def __init__(self, database: Database, providers: Mapping[str, Provider], repairs: Repairs, silence: Silence) -> None:
        self._silent = Claimed(
            database, self.kind, ATTEMPT, partial(unanswered.silent_steps, silence=silence), key=KEY, dry_run=repairs.dry_run
        )
        self._questions = Questions(
            database, providers, ATTEMPT, take=self._take, key_of=key_of_attempt, row_key=KEY, dry_run=repairs.dry_run
        )
        self._repairs = repairs
        self._silence = silence

    def sweep(self) -> int:
        """Time out steps whose worker is silent, and ask about unanswered ones; returns how many steps were changed."""
        until = budget_ends()
        timed_out = self._silent.each(self._time_out, until)
        return timed_out + self._questions.put(self.kind, self._act_on, until)

    def _time_out(self, row: Row[Any]) -> bool:
        is_changed = self._conclude(row, Action.TIMED_OUT, StepEvent.TIME_OUT, "the worker gave no sign of life")
        if is_changed and not self._repairs.dry_run:
            PROVIDER_UNKNOWN_OUTCOMES.labels(provider=row.provider_name).inc()
        return is_changed

    def _take(self, connection: Connection, limit: int, lease: timedelta | None, unasked: Unasked) -> list[Row[Any]]:
        return unanswered.unanswered_steps(connection, limit, lease, self._silence, unasked)

    def _give_up(self, row: Row[Any]) -> bool:
        """Leave an UNKNOWN step to a person when no reply will come: the provider has no look-up, or has been silent for too long.

        An accepted step goes on waiting for its callback.
        """
        is_silent = row.is_past_safe_interval and not row.has_lookup
        if row.status != StepStatus.UNKNOWN or not (row.is_to_be_given_up or is_silent):
            return False
        return self._conclude(row, Action.GIVEN_UP, StepEvent.FIND_UNCLEAR, "the provider cannot tell what became of it")

    def _act_on(self, row: Row[Any], outcome: Outcome) -> bool:
        if outcome is NO_REPLY:
            return self._give_up(row)
        if not _is_news(row, outcome):
            return False
        if outcome is NEVER_SEEN:
            action = Action.ABSENT
            is_changed = self._conclude(row, action, StepEvent.FIND_ABSENT, "the provider never saw it")
        else:
            action = MEANING[outcome.reply.status][0]
            is_changed = self._record(row, outcome.reply)
        if is_changed and row.status == StepStatus.UNKNOWN and not self._repairs.dry_run:
            PROVIDER_UNKNOWN_OUTCOMES_RESOLVED.labels(provider=row.provider_name, resolution=action.value).inc()
        return is_changed

    def _record(self, row: Row[Any], reply: ProviderReply) -> bool:
        action, event = MEANING[reply.status]
        fact = RecordFact(
            step_id=row.id,
            event=event,
            source=SOURCE,
            request_no=request_no_of(row.idempotency_key),
            external_ref=reply.external_ref,
            external_request_id=reply.request_id,
            failure_class=FailureClass.REJECTED if event is StepEvent.FAIL_FINALLY else FailureClass.NONE,
            reason=reply.reason,
        )
        evidence = {"providerStatus": reply.status, "requestId": reply.request_id, "externalRef": reply.external_ref}

        def record(uow: UnitOfWork) -> bool:
            kind, _ = fulfilling.record_fact(uow, fact)
            return kind is not CellKind.KEEP

        return self._repairs.make_and_evaluate(_repair(row, action, evidence), record, row.order_id)

    def _conclude(self, row: Row[Any], action: Action, event: StepEvent, reason: str) -> bool:
        conclusion = Infer(
            step_id=row.id,
            expected_version=row.version,
            event=event,
            source=SOURCE,
            request_safe_interval=self._silence.request_safe_interval,
            attempt_stale_after=self._silence.attempt_stale_after,
            reason=reason,
        )
        evidence = {"workerId": row.worker_id, "sentAt": row.sent_at, "heartbeatAt": row.heartbeat_at, "reason": reason}

        def infer(uow: UnitOfWork) -> bool:
            fulfilling.infer(uow, conclusion)
            return True

        return self._repairs.make_and_evaluate(_repair(row, action, evidence), infer, row.order_id)


def _is_news(row: Row[Any], outcome: Outcome) -> bool:
    """Whether something follows: "never seen" counts after the safe interval, "accepted" only for a step that was UNKNOWN."""
    if not isinstance(outcome, Replied):
        return bool(row.is_past_safe_interval)
    return row.status == StepStatus.UNKNOWN or outcome.reply.status is not ReplyStatus.ACCEPTED


def _repair(row: Row[Any], action: Action, evidence: Mapping[str, Any]) -> Repair:
    known = {"stepStatus": row.status, "attemptId": row.question_id, "idempotencyKey": row.idempotency_key}
    return Repair.of_step(Steps.kind, action, row.tenant_id, row.id, {**known, **evidence})

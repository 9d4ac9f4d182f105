"""Steps whose outcome is not known (the lesson, sections 12, 13 and 16): ask the provider by the key the request was sent with.

The rule it keeps: what the provider says is a fact and is recorded as one; what its silence says is an inference, drawn from a version
that was read before the question, and it loses to any callback that came meanwhile. Nothing is sent from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import fulfilling, steps, unanswered
from domain.delivery.fulfilling import Infer, OutcomeSource, RecordFact
from domain.delivery.steps import FailureClass, StepEvent, StepStatus
from domain.store import CellKind, UnitOfWork
from domain.store.unit_of_work import housekeeping
from reconciliation.evaluations import make_and_evaluate
from reconciliation.questions import Questions, Silence, Told, key_of_attempt
from reconciliation.repairs import Action, Repair, Repairs
from workers.providers.port import Provider, ProviderReply, ReplyStatus
from workers.runtime.metrics import PROVIDER_UNKNOWN_OUTCOMES, PROVIDER_UNKNOWN_OUTCOMES_RESOLVED

LIMIT = 1000  # steps looked at per sweep, oldest first
SOURCE = OutcomeSource.RECONCILIATION
MEANING = {
    ReplyStatus.ACCEPTED: (Action.ACCEPTED, StepEvent.ACKNOWLEDGE),
    ReplyStatus.COMPLETED: (Action.COMPLETED, StepEvent.COMPLETE),
    ReplyStatus.REJECTED: (Action.REJECTED, StepEvent.FAIL_FINALLY),
    ReplyStatus.CANCELLED: (Action.CANCELLED, StepEvent.CONFIRM_CANCEL),
}


class Steps:
    """Turns silence into UNKNOWN, and UNKNOWN into what the provider knows."""

    kind = "step"

    def __init__(self, database: Database, providers: Mapping[str, Provider], repairs: Repairs, silence: Silence) -> None:
        self._database = database
        self._questions = Questions(providers, key_of_attempt)
        self._repairs = repairs
        self._silence = silence

    def sweep(self) -> int:
        """Time out what is silent, ask about what is open; returns how many steps were changed."""
        return self._time_out_silent() + self._ask_about_unanswered()

    def _time_out_silent(self) -> int:
        with housekeeping(self._database) as connection:
            rows = unanswered.silent_steps(connection, LIMIT, self._silence.stale_after)
        return sum(self._time_out(row) for row in rows)

    def _time_out(self, row: Row[Any]) -> bool:
        is_changed = self._conclude(row, Action.TIMED_OUT, StepEvent.TIME_OUT, "the worker gave no sign of life")
        if is_changed and not self._repairs.dry_run:
            PROVIDER_UNKNOWN_OUTCOMES.labels(provider=row.provider_name).inc()
        return is_changed

    def _ask_about_unanswered(self) -> int:
        each = self._silence
        with housekeeping(self._database) as connection:
            rows = unanswered.unanswered_steps(connection, LIMIT, each.stale_after, each.absence_interval, each.give_up_after)
        return sum(self._act_on(row, told) for row, told in self._questions.put(rows))

    def _give_up(self, row: Row[Any]) -> bool:
        """Nobody tells: once the request must have arrived, or after a long while, a person has to find out. What was accepted is waited for."""
        if row.status != StepStatus.UNKNOWN or not (row.is_to_be_given_up or (row.is_past_safe_interval and not row.has_lookup)):
            return False
        return self._conclude(row, Action.GIVEN_UP, StepEvent.FIND_UNCLEAR, "the provider cannot tell what became of it")

    def _act_on(self, row: Row[Any], told: Told | None) -> bool:
        if told is None:
            return self._give_up(row)
        reply = told.reply
        is_unknown = row.status == StepStatus.UNKNOWN
        has_news = row.is_past_safe_interval if reply is None else is_unknown or reply.status is not ReplyStatus.ACCEPTED
        if not has_news:
            self._questions.ask_later(row.question_id)
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
            kind, _ = fulfilling.record_fact(uow, fact)
            return kind is not CellKind.KEEP

        return make_and_evaluate(self._repairs, _repair(row, action, evidence), record, row.order_id)

    def _conclude(self, row: Row[Any], action: Action, event: StepEvent, reason: str) -> bool:
        conclusion = Infer(
            step_id=row.id,
            expected_version=row.version,
            event=event,
            source=SOURCE,
            request_safe_interval=self._silence.absence_interval,
            attempt_stale_after=self._silence.stale_after,
            reason=reason,
        )
        evidence = {"workerId": row.worker_id, "sentAt": row.sent_at, "heartbeatAt": row.heartbeat_at, "reason": reason}

        def infer(uow: UnitOfWork) -> bool:
            fulfilling.infer(uow, conclusion)
            return True

        return make_and_evaluate(self._repairs, _repair(row, action, evidence), infer, row.order_id)


def _repair(row: Row[Any], action: Action, evidence: Mapping[str, Any]) -> Repair:
    return Repair(
        kind=Steps.kind,
        tenant_id=row.tenant_id,
        aggregate_type="fulfillment_step",
        aggregate_id=row.id,
        business_key=steps.business_key(row.tenant_id, row.id),
        action=action,
        evidence={"stepStatus": row.status, "attemptId": row.question_id, "idempotencyKey": row.idempotency_key, **evidence},
    )

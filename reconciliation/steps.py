"""Steps whose outcome is not known (the lesson, sections 12, 13 and 16): ask the provider by the key the request was sent with.

The rule it keeps: what the provider says is a fact and is recorded as one; what its silence says is an inference, drawn from a version
that was read before the question, and it loses to any callback that came meanwhile. Nothing is sent from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain import fulfilling, steps, sweeping
from domain.fulfilling import Infer, OutcomeSource, RecordFact
from domain.steps import FailureClass, StepEvent, StepStatus
from domain.store import Effect, UnitOfWork
from domain.store.unit_of_work import housekeeping
from reconciliation.questions import GIVE_UP_AFTER, Questions, UnansweredError
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
NO_LOOKUP = "the provider cannot tell what became of it"
NO_ANSWER = "the provider does not answer what became of it"
NEVER_SEEN = "the provider never saw it"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepIntervals:
    """`stale_after`: silence after which a worker is taken for dead and a callback for overdue.

    `absence_interval`: the longest time that a request may be under way; before it is over, "never seen" proves nothing.
    `give_up_after`: how long a provider is asked that does not answer, until a person has to find out.
    """

    stale_after: timedelta
    absence_interval: timedelta
    give_up_after: timedelta = GIVE_UP_AFTER


class Steps:
    """Turns silence into UNKNOWN, and UNKNOWN into what the provider knows."""

    kind = "step"

    def __init__(self, database: Database, providers: Mapping[str, Provider], repairs: Repairs, intervals: StepIntervals) -> None:
        self._database = database
        self._repairs = repairs
        self._intervals = intervals
        self._questions = Questions(providers)

    def sweep(self) -> int:
        """Time out what is silent, ask about what is open; returns how many steps were changed."""
        return self._time_out_silent() + self._settle_unanswered()

    def _time_out_silent(self) -> int:
        with housekeeping(self._database) as connection:
            rows = sweeping.silent_steps(connection, LIMIT, self._intervals.stale_after)
        return sum(self._time_out(row) for row in rows)

    def _time_out(self, row: Row[Any]) -> bool:
        is_changed = self._conclude(row, Action.TIMED_OUT, StepEvent.TIME_OUT, "the worker gave no sign of life")
        if is_changed and not self._repairs.dry_run:
            PROVIDER_UNKNOWN_OUTCOMES.labels(provider=row.provider_name).inc()
        return is_changed

    def _settle_unanswered(self) -> int:
        with housekeeping(self._database) as connection:
            rows = sweeping.unanswered_steps(connection, LIMIT, self._intervals.stale_after, self._intervals.absence_interval)
        # A provider that cannot be asked: once the request must have arrived, a person has to find out.
        changed = sum(self._give_up(row, NO_LOOKUP) for row in rows if not row.has_lookup and row.is_safe)
        askable = [row for row in rows if row.has_lookup]
        return changed + sum(self._ask(row) for row in self._questions.due(askable, lambda row: row.id))

    def _ask(self, row: Row[Any]) -> bool:
        try:
            reply = self._questions.ask(row.id, row.provider_name, row.idempotency_key)
        except UnansweredError:
            return row.waited > self._intervals.give_up_after and self._give_up(row, NO_ANSWER)
        is_unknown = row.status == StepStatus.UNKNOWN
        has_news = row.is_safe if reply is None else is_unknown or reply.status is not ReplyStatus.ACCEPTED
        if not has_news:
            self._questions.in_vain(row.id)
            return False
        action = Action.ABSENT if reply is None else MEANING[reply.status][0]
        is_changed = self._conclude_absence(row) if reply is None else self._record(row, reply)
        if is_changed and is_unknown and not self._repairs.dry_run:
            PROVIDER_UNKNOWN_OUTCOMES_RESOLVED.labels(provider=row.provider_name, resolution=action.value).inc()
        return is_changed

    def _record(self, row: Row[Any], reply: ProviderReply) -> bool:
        fact = fact_of(row, reply)

        def record(uow: UnitOfWork) -> bool:
            effect, _ = fulfilling.record_fact(uow, fact)
            return effect is not Effect.KEEP

        return self._make(row, MEANING[reply.status][0], told(reply), record)

    def _conclude_absence(self, row: Row[Any]) -> bool:
        return self._conclude(row, Action.ABSENT, StepEvent.FIND_ABSENT, NEVER_SEEN)

    def _give_up(self, row: Row[Any], reason: str) -> bool:
        """What is accepted is waited for; only an unknown outcome is a person's matter."""
        return row.status == StepStatus.UNKNOWN and self._conclude(row, Action.GIVEN_UP, StepEvent.FIND_UNCLEAR, reason)

    def _conclude(self, row: Row[Any], action: Action, event: StepEvent, reason: str) -> bool:
        conclusion = conclusion_of(row, event, reason, self._intervals)

        def infer(uow: UnitOfWork) -> bool:
            fulfilling.infer(uow, conclusion)
            return True

        evidence = {"workerId": row.worker_id, "sentAt": row.sent_at, "heartbeatAt": row.heartbeat_at, "reason": reason}
        return self._make(row, action, evidence, infer)

    def _make(self, row: Row[Any], action: Action, evidence: Mapping[str, Any], act: Callable[[UnitOfWork], bool]) -> bool:
        return self._repairs.make_of_step(repair_of(self.kind, row, action, evidence), row.order_id, act)


def fact_of(row: Row[Any], reply: ProviderReply) -> RecordFact:
    """What a provider's answer about the key of a request says of its step."""
    event = MEANING[reply.status][1]
    return RecordFact(
        step_id=row.id,
        event=event,
        source=SOURCE,
        external_ref=reply.external_ref,
        external_request_id=reply.request_id,
        failure_class=FailureClass.REJECTED if event is StepEvent.FAIL_FINALLY else FailureClass.NONE,
        reason=reply.reason,
    )


def conclusion_of(row: Row[Any], event: StepEvent, reason: str, intervals: StepIntervals) -> Infer:
    """What is concluded about a step from the version that was read."""
    return Infer(
        step_id=row.id,
        expected_version=row.version,
        event=event,
        source=SOURCE,
        safe_interval=intervals.absence_interval,
        silent_for=intervals.stale_after,
        reason=reason,
    )


def told(reply: ProviderReply) -> dict[str, Any]:
    """An answer as evidence."""
    return {"providerStatus": reply.status, "requestId": reply.request_id, "externalRef": reply.external_ref}


def repair_of(kind: str, row: Row[Any], action: Action, evidence: Mapping[str, Any]) -> Repair:
    """The repair of a step that an attempt was found at."""
    return Repair(
        kind=kind,
        tenant_id=row.tenant_id,
        aggregate_type="fulfillment_step",
        aggregate_id=row.id,
        business_key=steps.business_key(row.tenant_id, row.id),
        action=action,
        evidence={"stepStatus": row.status, "attemptId": row.attempt_id, "idempotencyKey": row.idempotency_key, **evidence},
    )

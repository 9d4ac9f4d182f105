"""Contradictions in question (the lesson, section 12): the provider's own ledger says whether the effect is there, and the domain what follows.

An effect that nobody wants any more is undone, one that is wanted and gone is for a person; what was on its way is asked about again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain import compensating, steps, sweeping, unanswered
from domain.contradictions import StepContradiction
from domain.orders import SalesOrder
from domain.store import UnitOfWork
from domain.store.unit_of_work import housekeeping
from reconciliation.questions import Questions, UnansweredError
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.steps import NO_ANSWER, StepIntervals
from workers.providers.port import Provider, ProviderReply, ReplyStatus

LIMIT = 200  # questions per sweep, oldest first


class Contradictions:
    """Puts every open question to its provider; `intervals.absence_interval` is how long a request may be under way."""

    kind = "contradiction"

    def __init__(self, database: Database, providers: Mapping[str, Provider], repairs: Repairs, intervals: StepIntervals) -> None:
        self._database = database
        self._repairs = repairs
        self._intervals = intervals
        self._questions = Questions(providers)

    def sweep(self) -> int:
        """Ask about every contradiction in question; returns how many were settled."""
        with housekeeping(self._database) as connection:
            rows = sweeping.open_questions(connection, LIMIT, self._intervals.absence_interval)
        return sum(self._ask(row) for row in self._questions.due(rows, lambda row: row.id))

    def _ask(self, row: Row[Any]) -> bool:
        try:
            reply = self._questions.ask(row.id, row.provider_name, steps.idempotency_key(row.step_id))
        except UnansweredError:
            return row.waited > self._intervals.give_up_after and self._give_up(row)
        in_effect = _is_in_effect(row, reply)
        is_answered = in_effect is not None and self._answer(row, in_effect=in_effect)
        if not is_answered:
            self._questions.in_vain(row.id)
        return is_answered

    def _answer(self, row: Row[Any], *, in_effect: bool) -> bool:
        return self._make(row, Action.ANSWERED, {"inEffect": in_effect}, lambda uow: _answered(uow, row, in_effect=in_effect))

    def _give_up(self, row: Row[Any]) -> bool:
        return self._make(
            row, Action.GIVEN_UP, {"reason": NO_ANSWER}, lambda uow: unanswered.leave_to_a_person(uow, row.id, NO_ANSWER)
        )

    def _make(self, row: Row[Any], action: Action, evidence: Mapping[str, Any], act: Callable[[UnitOfWork], bool]) -> bool:
        repair = Repair(
            kind=self.kind,
            tenant_id=row.tenant_id,
            aggregate_type="fulfillment_step",
            aggregate_id=row.step_id,
            business_key=steps.business_key(row.tenant_id, row.step_id),
            action=action,
            evidence={"said": row.said, "known": row.known, "stepStatus": row.step_status, **evidence},
        )
        return self._repairs.make_of_step(repair, row.order_id, act)


def _answered(uow: UnitOfWork, row: Row[Any], *, in_effect: bool) -> bool:
    # Locked, so that an answer that is faster is seen, and no finding claims what it did.
    uow.read(SalesOrder, row.order_id, lock=True)
    if uow.read(StepContradiction, row.id).answer is not None:
        return False
    compensating.answer(uow, row.id, in_effect=in_effect)
    return True


def _is_in_effect(row: Row[Any], reply: ProviderReply | None) -> bool | None:
    """None: not known yet."""
    if reply is None:
        return False if row.is_safe else None
    if reply.status is ReplyStatus.ACCEPTED:
        return None
    return reply.status is ReplyStatus.COMPLETED

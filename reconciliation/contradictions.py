"""Contradictions in question (the lesson, section 12): the provider's own ledger says whether the effect is there, and the domain what follows.

An effect that nobody wants any more is undone, one that is wanted and gone is for a person; what was on its way is asked about again, and
what nobody can tell is for a person too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import attempts, compensating, steps, unanswered
from domain.store import UnitOfWork
from domain.store.unit_of_work import housekeeping
from reconciliation.evaluations import make_and_evaluate
from reconciliation.questions import Questions, Silence, Told
from reconciliation.repairs import Action, Repair, Repairs
from workers.providers.port import Provider, ReplyStatus

LIMIT = 200  # questions per sweep


class Contradictions:
    """Puts every open question to its provider."""

    kind = "contradiction"

    def __init__(self, database: Database, providers: Mapping[str, Provider], repairs: Repairs, silence: Silence) -> None:
        self._database = database
        self._questions = Questions(providers, _key_of)
        self._repairs = repairs
        self._silence = silence

    def sweep(self) -> int:
        """Ask about every contradiction in question; returns how many were settled."""
        each = self._silence
        with housekeeping(self._database) as connection:
            rows = unanswered.unsettled_contradictions(connection, LIMIT, each.absence_interval, each.give_up_after)
        return sum(self._act_on(row, told) for row, told in self._questions.put(rows))

    def _act_on(self, row: Row[Any], told: Told | None) -> bool:
        in_effect = _is_in_effect(row, told)
        if in_effect is None and row.is_to_be_given_up:
            return self._make(row, Action.GIVEN_UP, {}, lambda uow: compensating.leave_to_a_person(uow, row.id))
        if in_effect is None:
            self._questions.ask_later(row.question_id)
            return False
        evidence = {"inEffect": in_effect}
        return self._make(
            row, Action.ANSWERED, evidence, lambda uow: compensating.settle_contradiction(uow, row.id, in_effect=in_effect)
        )

    def _make(self, row: Row[Any], action: Action, evidence: Mapping[str, Any], act: Any) -> bool:
        repair = Repair(
            kind=self.kind,
            tenant_id=row.tenant_id,
            aggregate_type="fulfillment_step",
            aggregate_id=row.step_id,
            business_key=steps.business_key(row.tenant_id, row.step_id),
            action=action,
            evidence={"said": row.said, "known": row.known, "stepStatus": row.step_status, **evidence},
        )

        def settle(uow: UnitOfWork) -> bool:
            act(uow)
            return True

        return make_and_evaluate(self._repairs, repair, settle, row.order_id)


def _key_of(row: Row[Any]) -> str:
    return attempts.idempotency_key(row.step_id, request_no=row.request_no)


def _is_in_effect(row: Row[Any], told: Told | None) -> bool | None:
    """None: not known yet."""
    if told is None:
        return None
    if told.reply is None:
        return False if row.is_past_safe_interval else None
    return None if told.reply.status is ReplyStatus.ACCEPTED else told.reply.status is ReplyStatus.COMPLETED

"""Unsettled contradictions: asks the provider's own ledger whether the effect is there, and lets the domain decide what follows.

An effect that is no longer wanted is undone; a wanted effect that is gone is for a person. The provider is asked again about a request that
it has only accepted. What no provider can tell is for a person as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row
from sqlalchemy import Engine as Database

from domain.delivery import attempts, compensating, unanswered
from domain.delivery.contradictions import CONTRADICTION
from domain.delivery.unanswered import Silence, Unasked
from domain.store import UnitOfWork
from reconciliation.questions import NEVER_SEEN, NO_REPLY, Outcome, Questions
from reconciliation.repairs import Action, Repair, Repairs
from workers.providers.port import Provider, ReplyStatus


class Contradictions:
    """Asks about every contradiction that nothing has settled yet."""

    kind = "contradiction"

    def __init__(self, database: Database, providers: Mapping[str, Provider], repairs: Repairs, silence: Silence) -> None:
        self._questions = Questions(database, providers, CONTRADICTION, take=self._take, key_of=_key_of, dry_run=repairs.dry_run)
        self._repairs = repairs
        self._silence = silence

    def sweep(self) -> int:
        """Ask about every unsettled contradiction; returns how many were settled."""
        return self._questions.put(self.kind, self._act_on)

    def _take(self, connection: Connection, limit: int, lease: timedelta | None, unasked: Unasked) -> list[Row[Any]]:
        return unanswered.unsettled_contradictions(connection, limit, lease, self._silence, unasked)

    def _act_on(self, row: Row[Any], outcome: Outcome) -> bool:
        in_effect = _is_in_effect(row, outcome)
        if in_effect is None and row.is_to_be_given_up:
            return self._make(row, Action.GIVEN_UP, {}, lambda uow: compensating.leave_to_a_person(uow, row.id))
        if in_effect is None:
            return False
        evidence = {"inEffect": in_effect}
        return self._make(
            row, Action.ANSWERED, evidence, lambda uow: compensating.settle_contradiction(uow, row.id, in_effect=in_effect)
        )

    def _make(self, row: Row[Any], action: Action, evidence: Mapping[str, Any], command: Callable[[UnitOfWork], object]) -> bool:
        known = {"said": row.said, "known": row.known, "stepStatus": row.step_status}
        repair = Repair.of_step(self.kind, action, row.tenant_id, row.step_id, {**known, **evidence})

        def settle(uow: UnitOfWork) -> bool:
            command(uow)
            return True

        return self._repairs.make_and_evaluate(repair, settle, row.order_id)


def _key_of(row: Row[Any]) -> str:
    return attempts.idempotency_key(row.step_id, request_no=row.request_no)


def _is_in_effect(row: Row[Any], outcome: Outcome) -> bool | None:
    """None: not known yet."""
    if outcome is NO_REPLY:
        return None
    if outcome is NEVER_SEEN:
        return False if row.is_past_safe_interval else None
    return None if outcome.reply.status is ReplyStatus.ACCEPTED else outcome.reply.status is ReplyStatus.COMPLETED

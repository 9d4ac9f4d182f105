"""Contradictions in question (the lesson, section 12): the provider's own ledger says whether the effect is there, and the domain what follows.

An effect that nobody wants any more is undone, one that is wanted and gone is for a person; what was on its way is asked about again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain import compensating, steps, sweeping
from domain.store import UnitOfWork
from domain.store.unit_of_work import housekeeping
from reconciliation.cancellations import evaluate
from reconciliation.patience import Patience
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.steps import StepIntervals
from workers.providers.port import Provider, ProviderError, ProviderReply, ReplyStatus

LIMIT = 200  # questions per sweep

_log = structlog.get_logger()


class Contradictions:
    """Puts every open question to its provider; `intervals.absence_interval` is how long a request may be under way."""

    kind = "contradiction"

    def __init__(self, database: Database, providers: Mapping[str, Provider], repairs: Repairs, intervals: StepIntervals) -> None:
        self._database = database
        self._providers = providers
        self._repairs = repairs
        self._intervals = intervals
        self._patience = Patience()

    def sweep(self) -> int:
        """Ask about every contradiction in question; returns how many were answered."""
        with housekeeping(self._database) as connection:
            rows = sweeping.open_questions(connection, LIMIT, self._intervals.absence_interval)
        self._patience.forget_all_but({row.id for row in rows})
        return sum(self._ask(row) for row in rows if self._patience.is_over(row.id))

    def _ask(self, row: Row[Any]) -> bool:
        is_answered = False
        try:
            in_effect = _is_in_effect(row, self._providers[row.provider_name].query(steps.idempotency_key(row.step_id)))
            is_answered = in_effect is not None and self._answer(row, in_effect=in_effect)
        except (ProviderError, KeyError) as error:
            key = steps.business_key(row.tenant_id, row.step_id)
            _log.warning("provider_gave_no_answer", provider=row.provider_name, businessKey=key, reason=str(error))
        if not is_answered:
            self._patience.wait(row.id)
        return is_answered

    def _answer(self, row: Row[Any], *, in_effect: bool) -> bool:
        repair = Repair(
            kind=self.kind,
            tenant_id=row.tenant_id,
            aggregate_type="fulfillment_step",
            aggregate_id=row.step_id,
            business_key=steps.business_key(row.tenant_id, row.step_id),
            action=Action.ANSWERED,
            evidence={"said": row.said, "known": row.known, "stepStatus": row.step_status, "inEffect": in_effect},
        )

        def act(uow: UnitOfWork) -> bool:
            compensating.answer(uow, row.id, in_effect=in_effect)
            return True

        is_answered = self._repairs.make(repair, act)
        if is_answered and not self._repairs.dry_run:
            evaluate(self._repairs, repair, row)
        return is_answered


def _is_in_effect(row: Row[Any], reply: ProviderReply | None) -> bool | None:
    """None: not known yet."""
    if reply is None:
        return False if row.is_safe else None
    if reply.status is ReplyStatus.ACCEPTED:
        return None
    return reply.status is ReplyStatus.COMPLETED

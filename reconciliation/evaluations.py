"""After a repair: bring the order to where its steps have brought it, in a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import structlog

from domain.delivery import evaluating
from domain.errors import Refusal
from domain.store import UnitOfWork
from reconciliation.repairs import Repair, Repairs

_log = structlog.get_logger()


def make_and_evaluate(repairs: Repairs, repair: Repair, act: Callable[[UnitOfWork], bool], order_id: UUID) -> bool:
    """Make a repair of a step and evaluate its order; True when the repair was made (in a dry run: would be)."""
    is_changed = repairs.make(repair, act)
    if is_changed and not repairs.dry_run:
        try:
            with repairs.unit_of_work(repair) as uow:
                evaluating.evaluate(uow, order_id)
        except Refusal as refusal:
            _log.info("order_evaluated_elsewhere", orderId=order_id, conflictCode=refusal.code)
    return is_changed

"""After a step has changed: evaluate its order, in a unit of work of its own.

What changed is stored by then, so nothing is lost when it cannot be done now: the order's process and the reconciler evaluate too.
"""

from __future__ import annotations

from uuid import UUID

import structlog

from domain.delivery import evaluating
from domain.errors import DomainError
from domain.store import Cause
from workers.http.execution import Executor

_log = structlog.get_logger()


def evaluate(executor: Executor, cause: Cause, order_id: UUID) -> None:
    """Bring the order to where its steps have brought it, or leave that to others."""
    evaluation = Cause(
        tenant_id=cause.tenant_id, actor=cause.actor, command="evaluate-order", external_event_id=cause.external_event_id
    )
    try:
        executor.decided(evaluation, lambda uow: evaluating.evaluate(uow, order_id))
    except DomainError as error:
        _log.warning("evaluation_left_to_others", orderId=str(order_id), reason=error.code, tenantId=str(cause.tenant_id))

"""The evaluation of an order after a request has changed one of its steps: a failure is left to the others who evaluate."""

from __future__ import annotations

from uuid import UUID

from domain.errors import DomainError
from domain.store import Cause
from workers.http.execution import Executor
from workers.runtime.evaluation import then_evaluate


def evaluate(executor: Executor, cause: Cause, order_id: UUID) -> None:
    """Evaluate on behalf of the request's cause. The request itself is committed, so its client gets the same answer either way."""
    evaluation = Cause(
        tenant_id=cause.tenant_id, actor=cause.actor, command="evaluate-order", external_event_id=cause.external_event_id
    )
    then_evaluate(executor.decided, evaluation, order_id, left_to_others=DomainError)

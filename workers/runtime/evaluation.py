"""The evaluation of an order after a command on one of its steps, in a transaction of its own.

The command is committed by then. An evaluation that fails loses nothing: the order's process and reconciliation evaluate as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from uuid import UUID

import structlog

from domain.delivery import evaluating
from domain.errors import DomainError
from domain.store import Cause, UnitOfWork

# How a door carries out one command in a unit of work of its own.
CarryOut: TypeAlias = Callable[[Cause, Callable[[UnitOfWork], object]], object]

_log = structlog.get_logger()


def then_evaluate(
    carry_out: CarryOut, cause: Cause, order_id: UUID, *, left_to_others: type[DomainError] | tuple[type[DomainError], ...] = ()
) -> None:
    """Bring the order to the status that its steps have reached.

    A failure in `left_to_others` is logged, and the evaluation is left to the others who evaluate. Raises every other failure.
    """
    try:
        carry_out(cause, lambda uow: evaluating.evaluate(uow, order_id))
    except left_to_others as error:
        _log.warning("evaluation_left_to_others", orderId=str(order_id), reason=error.code, tenantId=str(cause.tenant_id))

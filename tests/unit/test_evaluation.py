"""The evaluation after a command: a failure is left to the sweep only when the caller allows it."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from domain.errors import DomainError, TryAgain
from domain.store import Cause, UnitOfWork
from workers.runtime.evaluation import then_evaluate

CAUSE = Cause(tenant_id=uuid4(), actor="worker", command="evaluate-order")


def busy(_: Cause, __: Callable[[UnitOfWork], object]) -> None:
    raise TryAgain


def test_a_failure_that_is_left_to_the_sweep_is_logged() -> None:
    order_id = uuid4()

    with capture_logs() as logs:
        then_evaluate(busy, CAUSE, order_id, left_to_others=DomainError)

    (line,) = logs
    assert (line["event"], line["orderId"], line["reason"]) == ("evaluation_left_to_others", str(order_id), "TRY_AGAIN")


def test_every_other_failure_is_raised() -> None:
    with pytest.raises(TryAgain):
        then_evaluate(busy, CAUSE, uuid4())

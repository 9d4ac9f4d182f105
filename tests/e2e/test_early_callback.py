"""A callback completes a step before the provider's reply, so its process does not wait for a message yet (race 8, on the whole stack)."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from domain.delivery.callbacks import ExternalCallbackRecord
from tests.support.suite import Shop
from tests.support.waiting import eventually
from workers.sandbox.faults import FaultKind

pytestmark = pytest.mark.stack

PROVISION = "PROVISION_SERVICE"


def test_a_completion_that_comes_before_the_answer_is_not_lost(shop: Shop) -> None:
    """Kills: a process that waits for a message that was correlated before the process began to wait."""
    faults = shop.local.provider.faults
    faults.add(FaultKind.EARLY_CALLBACK, step_code=PROVISION)
    faults.add(FaultKind.HOLD_ANSWER, step_code=PROVISION, duration=timedelta(seconds=2))

    order_id = shop.accepted_order()
    eventually(lambda: shop.order(order_id)["status"] == "FULFILLED", "the order is fulfilled", patience=90)

    [step_id] = (UUID(step["stepId"]) for step in shop.order(order_id)["steps"] if step["stepCode"] == PROVISION)
    assert shop.changes(step_id) == ["PLAN", "START", "COMPLETE"]
    [attempt] = shop.attempts(step_id)
    assert (attempt.status, attempt.outcome_source) == ("SUCCEEDED", "CALLBACK")
    assert [record.processed_status for record in shop.rows(ExternalCallbackRecord, step_id=step_id)] == ["APPLIED"]
    assert (shop.ledger()[step_id]["requests"], shop.ledger()[step_id]["net"]) == (1, 1)
    shop.processes_end()

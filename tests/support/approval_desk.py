"""The workers of `quote-approval`, called as the engine calls them: the rules give what the test says."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from domain.workflows import instances
from domain.workflows.keys import BusinessKey, Kind
from tests.support.as_read import Offer
from tests.support.database import acting
from tests.support.offers import APPROVER, Offers
from tests.support.rules import KnownEngine
from workers.pod.contract import Task
from workers.runtime.variables import encode
from workers.tasks.approval import Approval

DISCOUNT: dict[str, Any] = {
    "level": 1,
    "requirementType": "DISCOUNT",
    "approverGroup": "approverRsm",
    "minAuthorityDiscountPercent": 20.0,
    "slaDuration": "PT24H",
    "because": "A discount of 20.0 % is more than sales may give alone (10 %).",
}


class Desk:
    """The handlers, called for one offer as the engine calls them: the rules give what the test says."""

    def __init__(self, offers: Offers) -> None:
        self._offers = offers
        self.engine = KnownEngine(groups={APPROVER: ["approverRsm"]}, completed_by=APPROVER)
        self._workers = Approval(acting(offers.engine, "tasks"), self.engine.door)

    def facts(self, offer: Offer) -> dict[str, Any]:
        return self._workers.collect_facts(*self._of_offer("quote.collect-approval-facts", offer))

    def open(self, offer: Offer, *rows: dict[str, Any], reuse: bool = False) -> dict[str, Any]:
        self.engine.rows = {"approval-requirements": rows, "reapproval-reuse": [{"reuse": reuse}]}
        opened: dict[str, Any] = self._workers.open_requirements(*self._of_offer("quote.open-requirements", offer))
        return opened

    def outcome(self, offer: Offer) -> dict[str, Any]:
        return self._workers.apply_outcome(*self._of_offer("quote.apply-outcome", offer))

    def show(self, requirement_id: UUID) -> dict[str, Any]:
        """Prepare the form of a signature."""
        task, key = self._of_signature("approval.prepare-form", requirement_id)
        values = self._workers.prepare_form(task, key)
        self.engine.offer(task.process_instance_id, values)
        return values

    def answer(self, requirement_id: UUID, decision: str, **variables: Any) -> dict[str, Any]:
        """Complete the form that was shown, as the person does whom the engine names."""
        self.engine.typed = encode({"decision": decision, "reasonCode": "WITHIN_POLICY", "comment": "", **variables})
        return self._workers.record_decision(*self._of_signature("approval.record-decision", requirement_id))

    def record(self, requirement_id: UUID, decision: str) -> dict[str, Any]:
        """Show the form of a signature, and complete it."""
        self.show(requirement_id)
        return self.answer(requirement_id, decision)

    def _of_offer(self, topic: str, offer: Offer) -> tuple[Task, BusinessKey]:
        key = BusinessKey(Kind.QUOTE_REVISION, self._offers.tenant_id, (offer.quote_id, offer.revision_id))
        return _task(topic, f"instance-{offer.revision_id}", key), key

    def _of_signature(self, topic: str, requirement_id: UUID, **variables: Any) -> tuple[Task, BusinessKey]:
        key = BusinessKey(Kind.APPROVAL_REQUIREMENT, self._offers.tenant_id, (requirement_id,))
        with self._offers.uow() as uow:
            known = instances.acting_for(uow, [str(key)])
        return _task(topic, known[0] if known else self._offers.process_of_signature(requirement_id), key, **variables), key


def _task(topic: str, instance_id: str, key: BusinessKey, **variables: Any) -> Task:
    return Task(
        id="external-task-1",
        topic=topic,
        worker_id="worker-1",
        tenant_id=str(key.tenant_id),
        process_instance_id=instance_id,
        business_key=str(key),
        activity_id="activity",
        execution_id="execution-1",
        variables=variables,
    )


def first(opened: dict[str, Any]) -> UUID:
    """The first signature that is asked for."""
    return UUID(opened["levels"][0]["requirements"][0]["requirementId"])


@pytest.fixture
def desk(offers: Offers) -> Desk:
    return Desk(offers)

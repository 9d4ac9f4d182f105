"""Walks of `quote-approval`: a submitted quote, its open requirements, and the people whose signatures it needs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from tests.support.waiting import eventually
from tests.support.walk import Walk
from workers.runtime.engine import Engine, UserTask
from workers.runtime.variables import Variable

FACTS: dict[str, Variable] = {
    "maxDiscountPercent": 5.0,
    "marginPercent": 30.0,
    "dealAmount": 4214.8,
    "currency": "EUR",
    "region": "DE-NORTH",
    "productFamily": "FIBRE",
    "paymentTermDays": 30,
    "priceStale": False,
    "quoteNumber": "Q-1",
    "hasBasis": False,
    "discountChange": 0.0,
    "marginChange": 0.0,
    "dealAmountChange": 0.0,
    "paymentTermChange": 0,
    "linesAdded": True,
    "basisAgeDays": 0.0,
}
# Far from now, so that no timer fires by itself while a test runs.
REMIND, DUE = (datetime.now(UTC) + timedelta(days=days) for days in (10, 20))


def requirement(requirement_id: str, requirement_type: str, group: str, **changes: Variable) -> dict[str, Variable]:
    """Make a requirement as `quote.open-requirements` returns it."""
    return {
        "requirementId": requirement_id,
        "requirementType": requirement_type,
        "approverGroup": group,
        "because": f"The rules ask for {requirement_type}.",
        "remindAt": REMIND.isoformat(),
        "dueAt": DUE.isoformat(),
        "escalationLevel": 0,
        **changes,
    }


LEVELS: list[Variable] = [
    {
        "level": 1,
        "requirements": [requirement("r1", "DISCOUNT", "approverRsm"), requirement("r2", "PAYMENT_TERMS", "dealDesk")],
    },
    {"level": 2, "requirements": [requirement("r3", "DISCOUNT", "approverDirector")]},
]


def submitted(engine: Engine) -> Walk:
    """Start the approval of a quote."""
    ids = {name: str(uuid4()) for name in ("tenantId", "quoteId", "quoteRevisionId", "priceResultId", "startToken")}
    return Walk.start(engine, "quote-approval", "quote", **ids)


def under_approval(engine: Engine, levels: list[Variable] | None = None) -> Walk:
    """Build a quote whose first level (two requirements side by side, unless `levels` says otherwise) is open."""
    walk = submitted(engine)
    walk.work("workflow.register")
    walk.work("quote.collect-approval-facts", **FACTS)
    opened: dict[str, Variable] = {
        "approvalRequestId": str(uuid4()),
        "approvalNeeded": True,
        "approvalReused": False,
        "rulesText": "",
    }
    walk.work("quote.open-requirements", **opened, levels=levels or LEVELS)
    return walk


def called(walk: Walk, business_key: str) -> Walk:
    """Wait for the process with this key, which a walk's instance has called."""

    def found() -> list[str]:
        return [each.id for each in walk.engine.called_by(walk.instance_id) if each.business_key == business_key]

    [instance_id] = eventually(found, f"the process {business_key}")
    return Walk(engine=walk.engine, business_key=business_key, instance_id=instance_id)


def asked(signature: Walk, *, after: UserTask | None = None) -> UserTask:
    """Wait for the user task of a signature, or for the one that follows task `after`."""

    def open_tasks() -> list[UserTask]:
        tasks = signature.engine.user_tasks(signature.business_key)
        return [task for task in tasks if after is None or task.id != after.id]

    return eventually(open_tasks, f"somebody is asked in {signature.business_key}")[0]


def asked_for(walk: Walk, requirement_id: str, *, after: UserTask | None = None) -> UserTask:
    """Wait for the user task of one requirement, or for the one that follows task `after`."""

    def asked() -> list[UserTask]:
        tasks = [task for task in walk.engine.user_tasks(walk.business_key) if after is None or task.id != after.id]
        return [task for task in tasks if walk.seen_by(task).get("requirementId") == requirement_id]

    return eventually(asked, f"somebody is asked for {requirement_id}")[0]


def decide(walk: Walk, requirement_id: str, decision: str) -> None:
    """Complete the user task of one requirement, as Tasklist does."""
    task = asked_for(walk, requirement_id)
    assert walk.engine.complete_user_task(task.id, {"decision": decision, "reasonCode": "STRATEGIC_DEAL", "comment": ""})


def groups(walk: Walk, task: UserTask) -> list[Any]:
    """Who sees a task."""
    return [link["groupId"] for link in walk.engine.get(f"/task/{task.id}/identity-links")]

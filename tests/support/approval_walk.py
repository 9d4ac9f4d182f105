"""Walks of `quote-approval`: a submitted quote, its open requirements, and the people whose signatures it needs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from tests.support.waiting import eventually
from tests.support.walk import Walk, called
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


def form(kind: str, group: str, **changes: Variable) -> dict[str, Variable]:
    """Make what `approval.prepare-form` sets for one signature."""
    return {
        "isDecided": False,
        "quoteNumber": "Q-1",
        "customerId": "C-1001",
        "netTotal": "4214.80",
        "requirementType": kind,
        "approverGroup": group,
        "because": f"The rules ask for {kind}.",
        "remindAt": REMIND.isoformat(),
        "dueAt": DUE.isoformat(),
        "escalationLevel": 0,
        **dict.fromkeys(("escalationNotice", "decisionRefused", "reminderNotice"), ""),
        **dict.fromkeys(("decision", "reasonCode", "comment")),
        **changes,
    }


FORMS = {
    "r1": form("DISCOUNT", "approverRsm"),
    "r2": form("PAYMENT_TERMS", "dealDesk"),
    "r3": form("DISCOUNT", "approverDirector"),
}


def level(number: int, *requirement_ids: str) -> dict[str, Variable]:
    """Make a level as `quote.open-requirements` sets it."""
    return {"level": number, "requirements": [{"requirementId": each} for each in requirement_ids]}


LEVELS: list[Variable] = [level(1, "r1", "r2"), level(2, "r3")]


def submitted(engine: Engine) -> Walk:
    """Start the approval of a quote."""
    ids = {name: str(uuid4()) for name in ("tenantId", "quoteId", "quoteRevisionId", "priceResultId", "startToken")}
    return Walk.start(engine, "quote-approval", "quote", **ids)


def under_approval(engine: Engine, *levels: Variable) -> Walk:
    """Build a quote whose first level is open: two signatures side by side, then a third one, unless `levels` say otherwise."""
    walk = submitted(engine)
    walk.work("workflow.register")
    walk.work("quote.collect-approval-facts", **FACTS)
    opened: dict[str, Variable] = {"approvalRequestId": str(uuid4()), "approvalNeeded": True, "approvalReused": False}
    walk.work("quote.open-requirements", **opened, levels=list(levels) or LEVELS)
    return walk


def signature(walk: Walk, requirement_id: str) -> Walk:
    """The process that asks for one signature."""
    return called(walk, f"approval:{walk.engine.instance_variables(walk.instance_id)['tenantId']}:{requirement_id}")


def asks(walk: Walk, requirement_id: str, **changes: Variable) -> Walk:
    """Prepare the form of one signature as the worker does, so that somebody is asked; returns its process."""
    signing = signature(walk, requirement_id)
    signing.work("approval.prepare-form", **FORMS[requirement_id] | changes)
    return signing


def asked(signature: Walk, *, after: UserTask | None = None) -> UserTask:
    """Wait for the user task of a signature, or for the one that follows task `after`."""

    def open_tasks() -> list[UserTask]:
        tasks = signature.engine.user_tasks(signature.business_key)
        return [task for task in tasks if after is None or task.id != after.id]

    return eventually(open_tasks, f"somebody is asked in {signature.business_key}")[0]


def decide(signing: Walk, decision: str) -> UserTask:
    """Complete the user task of one signature, as Tasklist does; returns that task."""
    task = asked(signing)
    assert signing.engine.complete_user_task(task.id, {"decision": decision, "reasonCode": "STRATEGIC_DEAL", "comment": ""})
    return task


def groups(walk: Walk, task: UserTask) -> list[Any]:
    """Who sees a task."""
    return [link["groupId"] for link in walk.engine.rows(f"/task/{task.id}/identity-links")]

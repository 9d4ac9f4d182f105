"""Approvers who write more than their form asks for, with their own logins through the engine's REST, as Tasklist calls it.

Each attack was once possible. A person who completes a task may write any variable of its process; no setting of the engine prevents it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from domain.offers import approvals
from tests.support.logins import logged_in
from tests.support.offered import APPROVE, ESCALATE, Offered
from tests.support.suite import Shop
from tests.support.waiting import eventually
from workers.demo.local_suite import PEOPLE_PASSWORD
from workers.demo.people import DIRECTOR, OPERATOR, RSM

pytestmark = pytest.mark.stack

COLLEAGUE = "rolf"


@pytest.fixture
def small(shop: Shop) -> Offered:
    """A quote that the regional sales manager may sign alone."""
    return Offered.at(shop, "18")


@pytest.fixture
def large(shop: Shop) -> Offered:
    """A quote that needs the director, too."""
    return Offered.at(shop, "40")


@pytest.fixture
def colleague(shop: Shop) -> Iterator[str]:
    """Somebody else of the same group."""
    shop.engine.ensure_user(COLLEAGUE, first_name="Rolf", last_name="Tan", email="rolf@example.org", password=PEOPLE_PASSWORD)
    shop.engine.ensure_membership(RSM.groups[0], COLLEAGUE)
    yield COLLEAGUE
    shop.engine.call("DELETE", f"/user/{COLLEAGUE}")


def test_a_signature_cannot_be_pointed_at_another_quote(small: Offered, large: Offered) -> None:
    small.complete(RSM.id, small.task(), **APPROVE, **large.ids)

    small.ends_as("APPROVED")
    assert small.decisions() == [(small.requirement().id, RSM.id)]
    assert large.decisions() == []


def test_an_escalation_cannot_be_pointed_at_another_quote(small: Offered, large: Offered) -> None:
    small.complete(RSM.id, small.task(), **ESCALATE, **large.ids)

    eventually(lambda: small.requirement().escalation_level == 1, "the small quote is escalated")
    assert large.requirement().escalation_level == 0


def test_an_escalation_cannot_name_the_group_that_is_asked_next(small: Offered) -> None:
    forged = {"nextApproverGroup": "dealDesk", "approverGroup": "dealDesk", "escalationLevel": 2, "slaDuration": "PT9999H"}

    small.complete(RSM.id, small.task(), **ESCALATE, **forged)

    eventually(lambda: small.requirement().escalation_level == 1, "the quote is escalated")
    assert small.requirement().approver_group == "approverDirector"


def test_the_next_level_is_shown_the_facts_of_the_database(large: Offered) -> None:
    truth = large.shop.engine.task_variables(large.task().id)
    forged = {"netTotal": "1.00", "maxDiscountPercent": 1.0, "linesText": "nothing", "because": "Nothing to see here."}

    large.complete(RSM.id, large.task(), **APPROVE, **forged)

    seen = large.shop.engine.task_variables(large.task(level=2).id)
    assert {name: seen[name] for name in forged if name != "because"} == {name: truth[name] for name in forged if name != "because"}
    assert seen["because"] == large.requirement(level=2).because


def test_the_first_level_cannot_make_up_the_second(large: Offered, small: Offered) -> None:
    made_up = [{"level": 2, "requirements": [{"requirementId": small.ids["requirementId"]}]}]

    large.complete(RSM.id, large.task(), **APPROVE, levels=made_up, requirement={"requirementId": "made up"})

    assert large.shop.engine.task_variables(large.task(level=2).id)["requirementType"] == "DISCOUNT"
    large.complete(DIRECTOR.id, large.task(level=2), **APPROVE)
    large.ends_as("APPROVED")
    assert large.decisions() == [(large.requirement(1).id, RSM.id), (large.requirement(2).id, DIRECTOR.id)]


def test_what_a_colleague_has_written_into_an_open_form_is_not_signed(small: Offered, colleague: str) -> None:
    task = small.task()
    with logged_in(small.shop, colleague) as engine:
        engine.post(f"/task/{task.id}/resolve", {"variables": {"netTotal": {"value": "1.00", "type": "String"}}})
    assert small.shop.engine.task_variables(task.id)["netTotal"] == "1.00"

    small.complete(RSM.id, task, **APPROVE)

    renewed = small.task(after=task.id)
    seen = small.shop.engine.task_variables(renewed.id)
    assert seen["decisionRefused"] == rf"{RSM.id}\: What the form shows has changed since it was opened\."
    assert seen["netTotal"] != "1.00"
    small.complete(RSM.id, renewed, **APPROVE)
    small.ends_as("APPROVED")


def start_recording(small: Offered, *before: dict[str, Any]) -> str:
    """Start the task after the approver's by hand, as an operator, with a decision; returns what stopped it."""
    [instance] = small.shop.engine.find_instances(approvals.business_key(small.shop.tenant_id, small.requirement().id))
    variables = {name: {"value": value, "type": "String"} for name, value in APPROVE.items()}
    past_the_approver = [*before, {"type": "startBeforeActivity", "activityId": "record-decision", "variables": variables}]
    with logged_in(small.shop, OPERATOR.id) as engine:
        engine.post(f"/process-instance/{instance.id}/modification", {"instructions": past_the_approver})
    [incident] = eventually(lambda: small.shop.engine.get("/incident", processInstanceId=instance.id), "an incident")
    return str(incident["incidentMessage"])


def test_an_operator_who_moves_the_token_past_the_approver_signs_nothing(small: Offered) -> None:
    small.task()

    stopped = start_recording(small, {"type": "cancel", "activityId": "approve-quote"})

    assert stopped.startswith("Nobody has completed the task of this requirement")
    assert small.decisions() == []


def test_an_operator_cannot_use_an_earlier_completion_that_was_refused(small: Offered) -> None:
    refused = small.task()
    small.complete(RSM.id, refused, **{**APPROVE, "decision": "NONSENSE"})
    small.task(after=refused.id)

    stopped = start_recording(small)

    assert stopped.startswith("Nobody has completed the task of this requirement")
    assert small.decisions() == []

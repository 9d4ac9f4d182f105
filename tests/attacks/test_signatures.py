"""Approvers who write more than their form asks for, with their own logins through the engine's REST, as Tasklist calls it.

Each attack was once possible. A person who completes a task may write any variable of its process; no setting of the engine prevents it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from domain.offers import approvals
from tests.support.logins import hired, logged_in
from tests.support.offered import APPROVE, ESCALATE, Offered
from tests.support.suite import Shop
from tests.support.waiting import eventually
from workers.demo.people import DIRECTOR, MANAGER, OPERATOR, RSM

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
    with hired(COLLEAGUE, RSM.groups[0], by=(shop,)) as colleague:
        yield colleague


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
    forged = {"nextApproverGroup": "dealDesk", "approverGroup": "dealDesk", "escalationLevel": "high", "slaDuration": "PT9999H"}

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
        engine.post(f"/task/{task.id}/resolve", {"variables": {"listTotal": {"value": "1.00", "type": "String"}}})
    assert small.shop.engine.task_variables(task.id)["listTotal"] == "1.00"

    small.complete(RSM.id, task, **APPROVE)

    renewed = small.task(after=task.id)
    seen = small.shop.engine.task_variables(renewed.id)
    assert seen["decisionRefused"] == rf"{RSM.id}\: What the form shows has changed since it was opened\."
    assert seen["listTotal"] != "1.00"
    small.complete(RSM.id, renewed, **APPROVE)
    small.ends_as("APPROVED")


def test_values_without_measure_are_not_read_and_sign_nothing(small: Offered) -> None:
    """A variable of this type may have any size, and a person may write any number of them."""
    task = small.task()
    with logged_in(small.shop, RSM.id) as engine:
        engine.post(f"/task/{task.id}/resolve", {"variables": {"junk": {"type": "Json", "value": json.dumps("x" * 100_000)}}})
        updates = "/history/detail/count?variableUpdates=true&variableTypeIn=json"
        assert small.shop.engine.get(updates, processInstanceId=task.process_instance_id)["count"] == 1

    small.complete(RSM.id, task, **APPROVE)

    small.task(after=task.id)
    assert small.decisions() == []
    small.shop.driver.decide(small.sample, MANAGER, "APPROVE")
    small.ends_as("APPROVED")


def test_a_signature_under_a_task_that_an_operator_has_renamed_does_not_count(small: Offered) -> None:
    """The name and the description of a task stand above the form."""
    task = small.task()
    with logged_in(small.shop, OPERATOR.id) as engine:
        row = engine.get(f"/task/{task.id}")
        told = {name: row[name] for name in ("owner", "assignee", "due", "priority", "tenantId")}
        engine.put(f"/task/{task.id}", {**told, "name": "Already checked by legal", "description": "The discount is 1 %."})

    small.complete(RSM.id, task, **APPROVE)

    renewed = small.task(after=task.id)
    assert (small.decisions(), renewed.name) == ([], f"Approve quote {small.sample.quote['quoteNumber']}")
    small.complete(RSM.id, renewed, **APPROVE)
    small.ends_as("APPROVED")


def start_recording(small: Offered, *before: dict[str, Any]) -> str:
    """Start the task after the approver's by hand, as an operator, with a decision; returns what stopped it."""
    [instance] = small.shop.engine.find_instances(approvals.business_key(small.shop.tenant_id, small.requirement().id))
    variables = {name: {"value": value, "type": "String"} for name, value in APPROVE.items()}
    past_the_approver = [*before, {"type": "startBeforeActivity", "activityId": "record-decision", "variables": variables}]
    with logged_in(small.shop, OPERATOR.id) as engine:
        engine.post(f"/process-instance/{instance.id}/modification", {"instructions": past_the_approver})
    [incident] = eventually(lambda: small.shop.engine.rows("/incident", processInstanceId=instance.id), "an incident")
    return str(incident["incidentMessage"])


def test_an_operator_who_moves_the_token_past_the_approver_signs_nothing(small: Offered) -> None:
    small.task()

    stopped = start_recording(small, {"type": "cancel", "activityId": "approve-quote"})

    assert stopped.startswith("Nobody has completed the task of this requirement")
    assert small.decisions() == []


def test_an_operator_who_takes_the_task_signs_nothing(small: Offered) -> None:
    task = small.task()
    with logged_in(small.shop, OPERATOR.id) as engine:
        assert engine.assign_user_task(task.id, OPERATOR.id)

    small.complete(OPERATOR.id, task, **APPROVE)

    small.task(after=task.id)
    assert small.decisions() == []


def test_an_operator_cannot_use_an_earlier_completion_that_was_refused(small: Offered) -> None:
    refused = small.task()
    small.complete(RSM.id, refused, **{**APPROVE, "decision": "NONSENSE"})
    small.task(after=refused.id)

    stopped = start_recording(small)

    assert stopped.startswith("Nobody has completed the task of this requirement")
    assert small.decisions() == []


@pytest.mark.parametrize(
    ("how", "body"),
    [
        ("bpmnError", {"errorCode": "STALE_APPROVAL"}),
        ("bpmnEscalation", {"escalationCode": "LEVEL_REFUSED"}),
    ],
    ids=["an error of the model", "an escalation of the model"],
)
def test_an_approver_who_ends_the_task_otherwise_is_asked_again(small: Offered, how: str, body: dict[str, str]) -> None:
    task = small.task()

    with logged_in(small.shop, RSM.id) as engine:
        engine.post(f"/task/{task.id}/{how}", body)

    small.complete(RSM.id, small.task(after=task.id), **APPROVE)
    small.ends_as("APPROVED")


def test_a_level_that_an_operator_left_out_is_asked_before_the_next_one(large: Offered) -> None:
    task = large.task()

    with logged_in(large.shop, OPERATOR.id) as engine:
        past_the_approver = [
            {"type": "cancel", "activityId": "approve-quote"},
            {"type": "startBeforeActivity", "activityId": "requirement-approved"},
        ]
        engine.post(f"/process-instance/{task.process_instance_id}/modification", {"instructions": past_the_approver})

    again = large.task(after=task.id)
    assert large.open_tasks(level=2) == []
    large.complete(RSM.id, again, **APPROVE)
    large.complete(DIRECTOR.id, large.task(level=2), **APPROVE)
    large.ends_as("APPROVED")


def test_an_operator_who_fires_a_timer_before_its_time_escalates_nothing(small: Offered) -> None:
    task, before = small.task(), small.requirement()
    with logged_in(small.shop, OPERATOR.id) as engine:
        [job] = engine.rows("/job", processInstanceId=task.process_instance_id, activityId="decision-overdue")
        engine.post(f"/job/{job['id']}/execute", {})

    small.task(after=task.id)

    assert (small.requirement().approver_group, small.requirement().due_at) == (before.approver_group, before.due_at)


def test_a_decision_of_another_type_than_text_gets_a_renewed_form(small: Offered) -> None:
    task = small.task()
    with logged_in(small.shop, RSM.id) as engine:
        sent = {
            "decision": {"type": "Json", "value": "[]"},
            "comment": {"type": "File", "value": "aGk=", "valueInfo": {"filename": "a"}},
        }
        engine.post(f"/task/{task.id}/complete", {"variables": sent})

    seen = small.shop.engine.task_variables(small.task(after=task.id).id)

    assert seen["decisionRefused"].startswith(rf"{RSM.id}\: Please choose APPROVE")

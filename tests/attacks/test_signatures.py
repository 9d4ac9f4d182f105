"""Approvers who write more than their form asks for, with their own logins through the engine's REST, as Tasklist calls it.

Each attack was once possible. A person who completes a task may write any variable of its process; no setting of the engine prevents it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Row

from domain.offers import approvals
from domain.offers.approvals import ApprovalDecision, ApprovalRequest, ApprovalRequirement
from tests.support.logins import complete, logged_in
from tests.support.suite import Shop, new_sample
from tests.support.waiting import eventually
from workers.demo.driver import SampleQuote
from workers.demo.local_suite import PEOPLE_PASSWORD
from workers.demo.people import DIRECTOR, MANAGER, OPERATOR, RSM
from workers.runtime.engine import UserTask

pytestmark = pytest.mark.stack

COLLEAGUE = "rolf"
APPROVE = {"decision": "APPROVE", "reasonCode": "STRATEGIC_DEAL", "comment": ""}
ESCALATE = {**APPROVE, "decision": "ESCALATE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A quote in approval, and what its approvers do with their own logins."""

    shop: Shop
    sample: SampleQuote = field(default_factory=lambda: new_sample("18"))

    @classmethod
    def at(cls, shop: Shop, discount: str) -> Offered:
        offered = cls(shop=shop, sample=new_sample(discount))
        shop.driver.offer(offered.sample)
        shop.driver.task_for(offered.sample, MANAGER)
        return offered

    @property
    def request(self) -> Row[Any]:
        [request] = self.shop.rows(ApprovalRequest, quote_revision_id=UUID(self.sample.quote["revisionId"]))
        return request

    def requirement(self, level: int = 1, kind: str = "DISCOUNT") -> Row[Any]:
        [row] = self.shop.rows(ApprovalRequirement, request_id=self.request.id, level=level, type=kind)
        return row

    @property
    def ids(self) -> dict[str, str]:
        """What a forger would have to know to point at this quote's first signature."""
        request = self.request
        return {
            "tenantId": str(self.shop.tenant_id),
            "requirementId": str(self.requirement().id),
            "quoteId": str(request.quote_id),
            "quoteRevisionId": str(request.quote_revision_id),
            "priceResultId": str(request.price_result_id),
        }

    def task(self, level: int = 1, *, after: str | None = None) -> UserTask:
        """Wait for the user task of a level, or for the one that follows task `after`."""
        key = approvals.business_key(self.shop.tenant_id, self.requirement(level).id)
        found = eventually(
            lambda: [task for task in self.shop.engine.user_tasks(key) if task.id != after], f"somebody is asked in {key}"
        )
        return found[0]

    def complete(self, person: str, task: UserTask, **variables: Any) -> None:
        complete(self.shop, person, task, **variables)

    def decisions(self) -> list[tuple[UUID, str]]:
        """Who has signed what of this quote."""
        rows = self.shop.rows(ApprovalDecision, quote_id=UUID(self.sample.quote["quoteId"]))
        return [(row.requirement_id, row.decided_by) for row in rows]

    def ends_as(self, status: str) -> None:
        eventually(lambda: self.shop.driver.refresh(self.sample) == status, f"the quote is {status}")


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
        engine.post(f"/task/{task.id}/resolve", {"variables": {"listTotal": {"value": "1.00", "type": "String"}}})
    assert small.shop.engine.task_variables(task.id)["listTotal"] == "1.00"

    small.complete(RSM.id, task, **APPROVE)

    renewed = small.task(after=task.id)
    seen = small.shop.engine.task_variables(renewed.id)
    assert seen["decisionRefused"] == rf"{RSM.id}\: What the form shows has changed since it was opened\."
    assert seen["listTotal"] != "1.00"
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

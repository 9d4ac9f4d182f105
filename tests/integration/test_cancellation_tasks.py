"""A person decides on a cancellation in Tasklist: on exactly what the form has shown, and in their own name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from domain.delivery import cancelling
from domain.delivery.cancellations import business_key
from domain.store import table_of
from domain.store.facts import WorkflowCommand
from domain.workflows.forms import ShownForm
from domain.workflows.keys import parse
from tests.support.database import acting
from tests.support.fulfilment import ROLES, Fulfilment
from tests.support.offers import CUSTOMER, FELIX, STAFF, Offers
from tests.support.rules import KnownEngine
from workers.pod.contract import GiveUp, Task
from workers.runtime.variables import encode
from workers.tasks.cancellation import Cancellation

ACCEPT = {"cancellationDecision": "ACCEPT", "assessmentReason": "GOOD_CUSTOMER"}
COMMAND = table_of(WorkflowCommand)
POLICY = "cancellation-policy"


class Assessment:
    """A cancellation that waits for a person, and the tasks that its process gives to the workers."""

    def __init__(self, offers: Offers) -> None:
        self.work = Fulfilment.running(offers)
        self.work.ask_to_cancel()
        self.key = business_key(offers.tenant_id, self.work.cancellation().id)
        self.instance_id = offers.process_of(self.key)
        rows: dict[str, Any] = {POLICY: [{"cancellationDecision": "HUMAN", "decisionReason": "HIGH_VALUE"}]}
        self.engine = KnownEngine(rows=rows, groups=dict.fromkeys((FELIX, CUSTOMER), ROLES[FELIX]))
        self._workers = Cancellation(acting(offers.engine, "tasks"), self.engine.door)

    def show(self) -> dict[str, Any]:
        values = self._workers.prepare_form(self._task("prepare-form"), parse(self.key))
        self.engine.offer(self.instance_id, values)
        return values

    def decide(self, person: str | None = FELIX, **filled_in: Any) -> dict[str, Any]:
        """Let a person complete the task, and the worker carry the decision out."""
        self.engine.completed_by, self.engine.typed = person, encode({**ACCEPT, **filled_in})
        return self._workers.record_decision(self._task("record-decision"), parse(self.key))

    def _task(self, activity: str) -> Task:
        return Task(
            id="external-task-1",
            topic=f"cancellation.{activity}",
            worker_id="worker-1",
            tenant_id=str(parse(self.key).tenant_id),
            process_instance_id=self.instance_id,
            business_key=self.key,
            activity_id=activity,
            execution_id="execution-1",
        )


@pytest.fixture
def assessment(offers: Offers) -> Assessment:
    return Assessment(offers)


def refused(assessment: Assessment, by: str = FELIX, **filled_in: Any) -> str:
    """Make a decision that is refused; returns the reason that the next form shows."""
    assert assessment.decide(by, **filled_in)["assessmentOutcome"] == "REFUSED"
    return str(assessment.show()["assessmentRefused"]).replace("\\", "")


def test_a_person_decides_and_what_they_were_shown_is_kept(assessment: Assessment) -> None:
    shown = assessment.show()

    assert assessment.decide()["assessmentOutcome"] == "APPLIED"

    request = assessment.work.cancellation()
    assert (request.status, request.decided_by, request.decision_reason) == ("EXECUTING", FELIX, "GOOD_CUSTOMER")
    with assessment.work.offers.uow() as uow:
        facts = uow.read(ShownForm, request.shown_form_id).facts
    assert (facts["order"]["orderNumber"], facts["currency"]) == (shown["orderNumber"], "EUR")


def test_the_form_says_which_rule_left_it_to_a_person(assessment: Assessment) -> None:
    assert assessment.show()["decisionReason"] == "HIGH_VALUE"


def test_a_decision_on_an_order_that_has_gone_on_is_refused(assessment: Assessment) -> None:
    """Kills: accepting a cancellation whose form showed no step under way."""
    assessment.show()
    with assessment.work.offers.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE fulfillment_step SET status = 'IN_PROGRESS' WHERE step_code = 'RESERVE_INVENTORY'")

    assert refused(assessment) == f"{FELIX}: What the form shows has changed since it was opened."
    assert assessment.work.cancellation().status == "ACKNOWLEDGED"
    assessment.show()
    assert assessment.decide()["assessmentOutcome"] == "APPLIED"


def test_a_form_into_which_somebody_has_written_decides_nothing(assessment: Assessment) -> None:
    assessment.show()
    assessment.engine.forge(stepsText="nothing")

    assert refused(assessment) == f"{FELIX}: What the form shows has changed since it was opened."


def test_whoever_asked_for_the_cancellation_does_not_decide_on_it(assessment: Assessment) -> None:
    assessment.work.offers.grant_authority(CUSTOMER, STAFF[FELIX])
    assessment.show()

    assert refused(assessment, CUSTOMER).startswith(f"{CUSTOMER}: Whoever asked")


def test_somebody_of_the_group_without_authority_here_decides_nothing(assessment: Assessment) -> None:
    """Kills: letting the engine's group decide, which a person has in every tenant."""
    assessment.engine.groups = {"frank": ROLES[FELIX]}
    assessment.show()

    assert refused(assessment, "frank").startswith("frank: You may not decide on this cancellation")
    assessment.work.offers.grant_authority("frank", STAFF[FELIX], max_deal_amount=Decimal("0.01"))
    assert refused(assessment, "frank").startswith("frank: You may not decide on this cancellation")


def test_anything_but_a_decision_is_refused(assessment: Assessment) -> None:
    assessment.show()

    assert "'PERHAPS' is not a decision" in refused(assessment, cancellationDecision="PERHAPS")


def test_the_first_of_two_decisions_counts(assessment: Assessment) -> None:
    assessment.show()
    assessment.work.assess(accept=False)

    assert assessment.decide()["assessmentOutcome"] == "APPLIED"

    assert assessment.work.cancellation().status == "DECLINED"
    assert assessment.show()["isOpen"] is False


def test_a_task_that_nobody_has_completed_makes_an_incident(assessment: Assessment) -> None:
    assessment.show()

    with pytest.raises(GiveUp, match="Nobody has completed the task"):
        assessment.decide(None)


def test_a_decision_over_http_completes_the_task(offers: Offers) -> None:
    work = Fulfilment.running(offers)
    work.ask_to_cancel()

    work.assess(accept=False)

    command_rows = select(COMMAND.c.name, COMMAND.c.business_key, COMMAND.c.variables).filter_by(kind="COMPLETE_TASK")
    with offers.engine.connect() as connection:
        command = connection.execute(command_rows).one()
    assert (command.name, command.business_key) == (cancelling.TASK, business_key(offers.tenant_id, work.cancellation().id))
    assert command.variables == {"cancellationDecision": "DECLINE", "assessmentReason": "GOOD_CUSTOMER"}

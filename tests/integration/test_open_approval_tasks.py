"""Tasks of approvers that nobody needs any more: the engine is told once more what should have ended them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from unittest.mock import Mock, create_autospec
from uuid import UUID

import pytest
from sqlalchemy import Row, select, text

from domain.fallout.triaging import CASE
from domain.offers import deciding, withdrawing
from domain.retry_rules import TASK_KEPT
from domain.store import table_of
from domain.store.facts import WorkflowCommand
from reconciliation.approvals import Approvals
from reconciliation.repairs import Repairs
from tests.support.as_read import Offer
from tests.support.database import acting, in_order
from tests.support.loading import loading
from tests.support.offers import Offers
from tests.support.reconciling import actions, all_are_due
from workers.runtime.engine import Engine, UserTask


class Asked:
    """A quote in approval, whose only signature a process asks for."""

    def __init__(self, offers: Offers) -> None:
        self.offers = offers
        self.offer: Offer = offers.quote_in_approval()
        [self.requirement_id] = offers.requirement_ids(self.offer)
        self.instance_id = offers.process_of_signature(self.requirement_id)
        self.engine: Mock = create_autospec(Engine, instance=True)
        task = UserTask(
            id="t", name="Approve", definition_key=deciding.TASK, process_instance_id=self.instance_id, assignee=None, due=None
        )
        self.engine.open_tasks.return_value = [task]

    def sweep(self, grace: timedelta = timedelta(0), *, dry_run: bool = False) -> int:
        """Sweep once, as a reconciler that has just started."""
        database = acting(self.offers.engine, "reconcile")
        return Approvals(database, self.engine, Repairs(database, dry_run=dry_run), grace).sweep()

    def the_engine_forgot_it(self) -> None:
        """Let every command be done, as if the engine had lost what it was told."""
        with self.offers.engine.begin() as connection:
            connection.execute(text("UPDATE workflow_command SET status = 'DONE'"))

    def told(self, *kinds: str) -> list[tuple[str, str, dict[str, Any]]]:
        """What the engine has yet to be told; `kinds` leaves out other commands."""
        command = table_of(WorkflowCommand)
        with self.offers.engine.connect() as connection:
            rows = connection.execute(in_order(select(*command.c), command).where(command.c.status == "PENDING"))
            return [(row.kind, row.name, row.variables) for row in rows if not kinds or row.kind in kinds]


@pytest.fixture
def asked(offers: Offers) -> Asked:
    asked = Asked(offers)
    asked.the_engine_forgot_it()
    return asked


def recall(asked: Asked) -> UUID:
    offer = asked.offer
    command = withdrawing.RecallQuote(
        quote_id=offer.quote_id, expected_version=offer.version, revision_id=offer.revision_id, reason_code="WRONG"
    )
    with asked.offers.uow() as uow:
        return UUID(str(withdrawing.recall(uow, command).id))


def test_a_task_whose_signature_is_wanted_stays(asked: Asked) -> None:
    assert asked.sweep() == 0

    assert asked.told() == []


def test_a_task_whose_signature_was_given_is_completed_with_that_decision(asked: Asked) -> None:
    asked.offers.decide(asked.offer, asked.requirement_id)
    asked.the_engine_forgot_it()

    assert asked.sweep() == 1

    assert asked.told() == [("COMPLETE_TASK", deciding.TASK, {"decision": "APPROVE", "reasonCode": "WITHIN_POLICY", "comment": ""})]
    assert actions(asked.offers) == ["told_again"]


def test_a_task_of_an_approval_that_was_recalled_is_ended_by_its_message(asked: Asked) -> None:
    recall(asked)
    asked.the_engine_forgot_it()

    assert asked.sweep() == 1

    assert [(kind, name) for kind, name, _ in asked.told()] == [("CORRELATE", "QuoteApprovalRecalled")]


def test_what_the_engine_is_still_being_told_is_not_said_twice(asked: Asked) -> None:
    asked.sweep()
    asked.offers.decide(asked.offer, asked.requirement_id)
    asked.the_engine_forgot_it()
    asked.sweep()

    assert asked.sweep() == 0

    assert len(asked.told()) == 1


def test_a_decision_has_time_to_end_its_task(asked: Asked) -> None:
    asked.offers.decide(asked.offer, asked.requirement_id)
    asked.the_engine_forgot_it()

    assert asked.sweep(timedelta(hours=1)) == 0


def test_a_task_that_stays_although_the_engine_was_told_is_not_told_in_every_round_by_any_reconciler(asked: Asked) -> None:
    asked.offers.decide(asked.offer, asked.requirement_id)
    asked.the_engine_forgot_it()
    asked.sweep()
    asked.the_engine_forgot_it()

    assert asked.sweep() == 0

    all_are_due(asked.offers.engine)
    assert asked.sweep() == 1


def told_before(asked: Asked, time: timedelta) -> None:
    """Let the first telling be so long ago, and let another reconciler begin."""
    with loading(asked.offers.engine) as connection:  # findings are evidence, which nobody changes
        connection.execute(
            text("UPDATE reconciliation_finding SET created_at = created_at - CAST(:time AS interval)"), {"time": time}
        )
    asked.the_engine_forgot_it()
    all_are_due(asked.offers.engine)


def test_a_task_that_the_engine_keeps_for_too_long_is_left_to_a_person(asked: Asked) -> None:
    """Kills: telling the engine for ever, with a command and a finding each time, about a task that nobody looks at."""
    asked.offers.decide(asked.offer, asked.requirement_id)
    asked.the_engine_forgot_it()
    asked.sweep()
    told_before(asked, TASK_KEPT.time - timedelta(minutes=5))
    asked.sweep()
    told_before(asked, timedelta(minutes=10))

    assert asked.sweep() == 1
    all_are_due(asked.offers.engine)
    assert asked.sweep() == 0

    [case] = cases_of(asked)
    assert (case.type, case.evidence["times"], case.evidence["tried"]) == ("WORKFLOW_INCIDENT", 2, "end the task of an approver")
    assert actions(asked.offers) == ["told_again", "told_again", "case_opened"]
    assert asked.told("COMPLETE_TASK") == []


def test_a_person_can_have_the_engine_told_once_more(asked: Asked) -> None:
    asked.offers.decide(asked.offer, asked.requirement_id)
    asked.the_engine_forgot_it()
    asked.sweep()
    told_before(asked, TASK_KEPT.time + timedelta(minutes=5))
    asked.sweep()
    with asked.offers.engine.begin() as connection:
        connection.execute(text("UPDATE fallout_case SET status = 'CLOSED', resolution = 'RETRY', resolved_by = 'anna'"))
    all_are_due(asked.offers.engine)

    assert asked.sweep() == 1

    assert [kind for kind, _, _ in asked.told("COMPLETE_TASK")] == ["COMPLETE_TASK"]


def cases_of(asked: Asked) -> Sequence[Row[Any]]:
    with asked.offers.engine.connect() as connection:
        return connection.execute(select(*CASE.c)).all()


def test_a_dry_run_tells_the_engine_nothing(asked: Asked) -> None:
    asked.offers.decide(asked.offer, asked.requirement_id)
    asked.the_engine_forgot_it()

    assert asked.sweep(dry_run=True) == 1

    assert asked.told() == []
